//! Output areas of one execution: which `ipywidgets.Output` captures what is shown next, and which areas are to be
//! emptied by the next output into them. Knows nothing of the items.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::limits::Limits;

/// Where an item is shown: in the cell itself or in an output widget, named by its comm id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Area {
    Cell,
    Output(Arc<str>),
}

/// Claims (innermost last) and deferred clears.
///
/// Bounded: an area beyond [`Limits::areas`], or with an id beyond [`Limits::id_bytes`], claims nothing.
#[derive(Debug)]
pub(super) struct Areas {
    limits: &'static Limits,
    claims: Vec<Arc<str>>,
    cell_clear_pending: bool,
    clear_pending: BTreeSet<Arc<str>>,
}

impl Areas {
    pub(super) fn new(limits: &'static Limits) -> Self {
        Self {
            limits,
            claims: Vec::new(),
            cell_clear_pending: false,
            clear_pending: BTreeSet::new(),
        }
    }

    pub(super) fn restore<'a>(
        limits: &'static Limits,
        claims: impl Iterator<Item = &'a str>,
        cell_clear_pending: bool,
        clear_pending: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut areas = Self::new(limits);
        claims.for_each(|comm_id| areas.claim(comm_id));
        areas.cell_clear_pending = cell_clear_pending;
        let clear_pending = clear_pending.filter(|comm_id| comm_id.len() <= limits.id_bytes);
        areas.clear_pending = clear_pending.take(limits.areas).map(Arc::from).collect();
        areas
    }

    /// The area that takes the next output.
    pub(super) fn current(&self) -> Area {
        self.claims
            .last()
            .map_or(Area::Cell, |comm_id| Area::Output(Arc::clone(comm_id)))
    }

    pub(super) fn claim(&mut self, comm_id: &str) {
        let known = self.claims.iter().any(|claim| **claim == *comm_id);
        if !known && self.claims.len() < self.limits.areas && comm_id.len() <= self.limits.id_bytes
        {
            self.claims.push(Arc::from(comm_id));
        }
    }

    pub(super) fn release(&mut self, comm_id: &str) {
        self.claims.retain(|claim| **claim != *comm_id);
    }

    /// Forgets an area whose widget is gone.
    pub(super) fn close(&mut self, comm_id: &str) {
        self.release(comm_id);
        self.clear_pending.remove(comm_id);
    }

    /// Arms the clear of an area; false if there is no room for another, and the caller clears at once.
    #[must_use]
    pub(super) fn arm(&mut self, area: &Area) -> bool {
        match area {
            Area::Cell => self.cell_clear_pending = true,
            Area::Output(comm_id) if self.clear_pending.contains(comm_id) => {}
            Area::Output(_) if self.clear_pending.len() >= self.limits.areas => return false,
            Area::Output(comm_id) => {
                self.clear_pending.insert(Arc::clone(comm_id));
            }
        }
        true
    }

    /// Disarms the clear of an area; true if there was one.
    #[must_use]
    pub(super) fn disarm(&mut self, area: &Area) -> bool {
        match area {
            Area::Cell => std::mem::take(&mut self.cell_clear_pending),
            Area::Output(comm_id) => self.clear_pending.remove(comm_id),
        }
    }

    /// Disarms the clears of all output areas, not the cell's own.
    pub(super) fn disarm_outputs(&mut self) {
        self.clear_pending.clear();
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().map(AsRef::as_ref)
    }

    pub(super) fn is_cell_clear_pending(&self) -> bool {
        self.cell_clear_pending
    }

    /// Comm ids of the areas with a pending clear, sorted.
    pub(super) fn clear_pending(&self) -> impl Iterator<Item = &str> {
        self.clear_pending.iter().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(comm_id: &str) -> Area {
        Area::Output(Arc::from(comm_id))
    }

    #[test]
    fn the_innermost_claim_captures() {
        let mut areas = Areas::new(&Limits::DEFAULT);
        assert_eq!(areas.current(), Area::Cell);
        areas.claim("a");
        areas.claim("b");
        areas.claim("a");
        assert_eq!(
            areas.current(),
            output("b"),
            "a claim that is held is not moved"
        );
        areas.release("b");
        assert_eq!(areas.current(), output("a"));
        areas.close("a");
        areas.release("never claimed");
        assert_eq!(areas.current(), Area::Cell);
    }

    #[test]
    fn closing_an_area_forgets_its_pending_clear() {
        let mut areas = Areas::new(&Limits::DEFAULT);
        assert!(areas.arm(&output("b")) && areas.arm(&output("a")) && areas.arm(&Area::Cell));
        assert_eq!(areas.clear_pending().collect::<Vec<_>>(), ["a", "b"]);
        areas.close("a");
        assert!(!areas.disarm(&output("a")));
        assert!(areas.disarm(&output("b")));
        assert!(!areas.disarm(&output("b")));
        assert!(areas.disarm(&Area::Cell));
        assert!(!areas.is_cell_clear_pending());
    }

    #[test]
    fn areas_beyond_the_limits_claim_nothing() {
        let limits = &Limits::TINY;
        let mut areas = Areas::new(limits);
        areas.claim("far too long an id");
        for n in 0..10 {
            areas.claim(&n.to_string());
            assert_eq!(areas.arm(&output(&n.to_string())), n < limits.areas);
        }
        assert_eq!(areas.claims().count(), limits.areas);
        assert!(areas.arm(&output("0")), "what is armed can be armed again");
        assert_eq!(areas.clear_pending().count(), limits.areas);
    }
}
