//! The items of a fold in order, and how room is made when there are too many of them: the first and the latest stay,
//! a notice takes the place of those between.

use std::sync::Arc;

use super::areas::Area;
use super::item::{Body, Bundle, Item};
use super::limits::Limits;
use super::stream::StreamText;

#[derive(Debug)]
pub(super) struct Items {
    limits: &'static Limits,
    list: Vec<Item>,
    /// Sum of the items' weights.
    weight: usize,
    /// Artifacts of items that were dropped for want of room, until somebody takes note.
    pub(super) elided_artifacts: Vec<Box<str>>,
}

impl Items {
    pub(super) fn new(limits: &'static Limits) -> Self {
        Self {
            limits,
            list: Vec::new(),
            weight: 0,
            elided_artifacts: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Item> {
        self.list.iter()
    }

    /// Writes stream text: into the last item of the area if that is a stream of this name, else into a new one.
    pub(super) fn write(&mut self, area: &Area, name: &str, text: &str) {
        let last = self.list.iter_mut().rev().find(|item| item.area == *area);
        match last.map(|item| &mut item.body) {
            Some(Body::Stream {
                name: last_name,
                text: last_text,
            }) if **last_name == *name => {
                self.weight -= last_text.len();
                last_text.write(text);
                self.weight += last_text.len();
                self.make_room();
            }
            _ => {
                let mut stream = StreamText::new(self.limits);
                stream.write(text);
                self.push(
                    area.clone(),
                    Body::Stream {
                        name: name.into(),
                        text: stream,
                    },
                );
            }
        }
    }

    pub(super) fn push(&mut self, area: Area, body: Body) {
        self.push_stored(area, body);
        self.make_room();
    }

    /// Appends a stored item; [`Self::make_room`] is due after the last of them.
    pub(super) fn push_stored(&mut self, area: Area, body: Body) {
        self.weight += body.weight();
        self.list.push(Item { area, body });
    }

    /// Gives every display with this id other data and metadata.
    pub(super) fn update_display(&mut self, display_id: &str, bundle: Bundle) {
        let update = Arc::new(bundle);
        for item in &mut self.list {
            if let Body::Display {
                bundle,
                display_id: Some(shown),
            } = &mut item.body
                && **shown == *display_id
            {
                self.weight = self.weight - bundle.weight() + update.weight();
                *bundle = Arc::clone(&update);
            }
        }
        self.make_room();
    }

    /// Removes the items of one output area, or for the cell all there are.
    pub(super) fn clear(&mut self, area: &Area) {
        match area {
            Area::Cell => self.list.clear(),
            Area::Output(_) => self.list.retain(|item| item.area != *area),
        }
        self.weight = self.list.iter().map(|item| item.body.weight()).sum();
    }

    /// Drops items from behind the head until the fold is well within its limits again. The last item always stays.
    pub(super) fn make_room(&mut self) {
        let limits = self.limits;
        if self.list.len() <= limits.items && self.weight <= limits.bytes {
            return;
        }
        let Some(last) = self.list.len().checked_sub(1) else {
            return;
        };
        let notice = self
            .list
            .iter()
            .position(|item| matches!(item.body, Body::Elided { .. }));
        let head = self.head_len().min(notice.unwrap_or(last));
        let mut end = head;
        while end < last {
            let remaining = head + 1 + self.list.len() - end;
            let roomy = remaining <= limits.keep_items && self.weight <= limits.keep_bytes;
            // An earlier notice is always taken in: two would be one too many.
            if roomy && notice.is_none_or(|notice| notice < end) {
                break;
            }
            self.weight -= self.list[end].body.weight();
            end += 1;
        }
        if end == head {
            return;
        }
        let dropped = self.list[head..end].iter();
        let artifact_ids = dropped
            .filter_map(|item| item.body.bundle())
            .flat_map(Bundle::artifact_ids);
        self.elided_artifacts.extend(artifact_ids.map(Box::from));
        let notice = elided(&self.list[head..end]);
        self.list.splice(
            head..end,
            [Item {
                area: Area::Cell,
                body: notice,
            }],
        );
    }

    /// Number of items that make up the head: all but the last as far as the limits go.
    fn head_len(&self) -> usize {
        let mut weight = 0;
        let candidates = self.list.split_last().map_or(&[][..], |(_, before)| before);
        let head = candidates
            .iter()
            .take(self.limits.head_items)
            .take_while(|item| {
                weight += item.body.weight();
                weight <= self.limits.head_items_bytes
            });
        head.count()
    }
}

/// The notice in the place of these items, one of which may be a notice itself.
fn elided(items: &[Item]) -> Body {
    let (mut outputs, mut bytes) = (0_u64, 0_u64);
    for item in items {
        let (more_outputs, more_bytes) = match &item.body {
            &Body::Elided { outputs, bytes } => (outputs, bytes),
            body => (1, body.weight() as u64),
        };
        outputs = outputs.saturating_add(more_outputs);
        bytes = bytes.saturating_add(more_bytes);
    }
    Body::Elided { outputs, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(limits: &Limits, text: &str, display_id: Option<&str>) -> Body {
        let json = format!("{{\"text/plain\": \"{text}\"}}");
        let bundle = Bundle::new(limits, Some(serde_json::from_str(&json).unwrap()), None);
        Body::display(limits, bundle, display_id)
    }

    fn shown(items: &Items) -> Vec<String> {
        let show = |item: &Item| match &item.body {
            Body::Display { bundle, .. } => bundle
                .data
                .replace("{\"text/plain\": \"", "")
                .replace("\"}", ""),
            Body::Elided { outputs, .. } => format!("-{outputs}"),
            body => format!("{body:?}"),
        };
        items.iter().map(show).collect()
    }

    #[test]
    fn many_items_keep_the_first_and_the_latest() {
        let mut items = Items::new(&Limits::TINY);
        for n in 0..9 {
            items.push(Area::Cell, display(&Limits::TINY, &n.to_string(), None));
        }
        assert_eq!(shown(&items), ["0", "1", "-5", "7", "8"]);
        for n in 9..14 {
            items.push(Area::Cell, display(&Limits::TINY, &n.to_string(), None));
        }
        assert_eq!(shown(&items), ["0", "1", "-9", "11", "12", "13"]);
    }

    /// Whoever keeps the images must know which are shown no more only for want of room.
    #[test]
    fn artifacts_of_elided_items_are_told_once() {
        let mut items = Items::new(&Limits::DEFAULT);
        let count = Limits::DEFAULT.items + 1;
        for n in 0..count {
            let json =
                format!(r#"{{"image/png": {{"$tithon_artifact": {{"artifact_id": "{n}"}}}}}}"#);
            let data = serde_json::from_str(&json).unwrap();
            let bundle = Bundle::new(&Limits::DEFAULT, Some(data), None);
            items.push(Area::Cell, Body::display(&Limits::DEFAULT, bundle, None));
        }
        let shown = items.iter().filter_map(|item| item.body.bundle()).count();
        let elided = std::mem::take(&mut items.elided_artifacts);
        assert_eq!(elided.len() + shown, count);
        assert_eq!(&*elided[0], Limits::DEFAULT.head_items.to_string());
        items.clear(&Area::Cell);
        assert!(items.elided_artifacts.is_empty(), "cleared is not elided");
    }

    #[test]
    fn heavy_items_give_way_but_never_the_last() {
        let mut items = Items::new(&Limits::TINY);
        let heavy = "x".repeat(90);
        for n in 0..20 {
            items.push(
                Area::Cell,
                display(&Limits::TINY, &format!("{n:02}{heavy}"), None),
            );
            assert!(items.weight <= Limits::TINY.bytes);
            assert!(
                shown(&items)
                    .last()
                    .unwrap()
                    .starts_with(&format!("{n:02}"))
            );
        }
        assert_eq!((shown(&items).len(), shown(&items)[0].as_str()), (5, "-16"));
    }

    #[test]
    fn an_update_that_weighs_too_much_makes_room() {
        let mut items = Items::new(&Limits::TINY);
        for _ in 0..7 {
            items.push(Area::Cell, display(&Limits::TINY, "small", Some("id")));
        }
        let Body::Display { bundle, .. } = display(&Limits::TINY, &"x".repeat(90), None) else {
            unreachable!()
        };
        items.update_display("id", Arc::into_inner(bundle).unwrap());
        assert!(items.weight <= Limits::TINY.keep_bytes);
        assert_eq!(
            items.weight,
            items.iter().map(|item| item.body.weight()).sum::<usize>()
        );
        assert_eq!(shown(&items)[0], "-5");
    }

    /// Displays of the head may become heavier than a head may be. Those it loses must not leave a second notice.
    #[test]
    fn a_head_that_grew_gives_way_up_to_the_notice() {
        let limits = &Limits::DEFAULT;
        let mut items = Items::new(limits);
        for n in 0..=limits.items {
            let display_id = (n < 6).then_some("id");
            items.push(Area::Cell, display(limits, "small", display_id));
        }
        assert_eq!(shown(&items)[limits.head_items], "-1002");
        let large = format!("{{\"text/html\": \"{}\"}}", "x".repeat(limits.bytes / 5));
        let update = serde_json::from_str(&large).unwrap();
        items.update_display("id", Bundle::new(limits, Some(update), None));
        assert_eq!(shown(&items)[..2], ["-2002", "small"]);
        assert_eq!(items.iter().count(), limits.keep_items - limits.head_items);
    }

    #[test]
    fn the_weight_is_that_of_the_items() {
        let mut items = Items::new(&Limits::DEFAULT);
        let area = Area::Output(Arc::from("o"));
        for (area, text) in [
            (&area, "a"),
            (&Area::Cell, "bc"),
            (&area, "def"),
            (&area, "\rx"),
        ] {
            items.write(area, "stdout", text);
        }
        assert_eq!(items.weight, 2 * "stdout".len() + "bc".len() + "xdef".len());
        items.clear(&area);
        assert_eq!(items.weight, "stdout".len() + "bc".len());
    }
}
