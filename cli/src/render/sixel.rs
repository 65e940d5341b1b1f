//! A PNG as sixels: bands of six rows, drawn colour by colour (DEC STD 070, chapter 9).

use std::collections::HashMap;

use color_quant::NeuQuant;
use zune_png::{
    PngDecoder,
    zune_core::{bytestream::ZCursor, options::DecoderOptions},
};

/// Registers of a terminal's palette that can be relied on.
const COLOURS_MAX: usize = 256;
/// Largest side that is decoded, in pixels.
const SIDE_MAX: usize = 1 << 13;
/// How thoroughly colours are chosen, from 1 (every pixel is looked at) to 30.
const SAMPLE: i32 = 10;
/// Less opaque than this is left as the terminal has it.
const OPAQUE: u8 = 128;
/// What a repetition has to spare to be worth its digits.
const RUN_MIN: usize = 4;

/// Pixels as red, green, blue and alpha.
struct Pixels {
    width: usize,
    height: usize,
    rgba: Vec<[u8; 4]>,
}

/// The sequence that draws a PNG, no wider than `width_max` pixels; nothing for what is no PNG.
pub(super) fn of_png(png: &[u8], width_max: usize) -> Option<String> {
    let pixels = decode(png)?.narrowed(width_max.max(1));
    let (palette, indices) = pixels.coloured();
    Some(pixels.draw(&palette, &indices))
}

fn decode(png: &[u8]) -> Option<Pixels> {
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .png_set_strip_to_8bit(true)
        .png_set_add_alpha_channel(true);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(png), options);
    let bytes = decoder.decode_raw().ok()?;
    let (width, height) = decoder.dimensions()?;
    let count = width.checked_mul(height).filter(|count| *count > 0)?;
    let rgba: Vec<[u8; 4]> = match bytes.len() / count {
        1 => bytes.iter().map(|&l| [l, l, l, 255]).collect(),
        2 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&[l, a]| [l, l, l, a])
            .collect(),
        3 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&[r, g, b]| [r, g, b, 255])
            .collect(),
        4 => bytes.as_chunks().0.to_vec(),
        _ => return None,
    };
    (rgba.len() == count).then_some(Pixels {
        width,
        height,
        rgba,
    })
}

impl Pixels {
    /// The same picture, made smaller by averages if it is wider than this.
    fn narrowed(self, width_max: usize) -> Self {
        if self.width <= width_max {
            return self;
        }
        let (width, height) = (width_max, (self.height * width_max / self.width).max(1));
        let mut rgba = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = y * self.height / height..((y + 1) * self.height).div_ceil(height);
            for x in 0..width {
                let columns = x * self.width / width..((x + 1) * self.width).div_ceil(width);
                let mut sums = [0_usize; 4];
                for row in rows.clone() {
                    for pixel in &self.rgba[row * self.width..][columns.clone()] {
                        for (sum, part) in sums.iter_mut().zip(pixel) {
                            *sum += usize::from(*part);
                        }
                    }
                }
                let count = rows.len() * columns.len();
                rgba.push(sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX)));
            }
        }
        Self {
            width,
            height,
            rgba,
        }
    }

    /// A palette, and for each pixel its place in it; none for what is not painted.
    fn coloured(&self) -> (Vec<[u8; 3]>, Vec<Option<usize>>) {
        let mut places: HashMap<[u8; 3], usize> = HashMap::new();
        let colours = self.rgba.iter().map(|pixel| painted(*pixel));
        for colour in colours.clone().flatten() {
            let next = places.len();
            places.entry(colour).or_insert(next);
        }
        if places.len() > COLOURS_MAX {
            let opaque: Vec<u8> = colours
                .clone()
                .flatten()
                .flat_map(|[r, g, b]| [r, g, b, u8::MAX])
                .collect();
            let chosen = NeuQuant::new(SAMPLE, COLOURS_MAX, &opaque);
            for (&[r, g, b], place) in &mut places {
                *place = chosen.index_of(&[r, g, b, u8::MAX]);
            }
            let indices = colours.map(|colour| places.get(&colour?).copied());
            let palette = chosen.color_map_rgb().as_chunks().0.to_vec();
            return (palette, indices.collect());
        }
        let mut palette = vec![[0; 3]; places.len()];
        for (colour, place) in &places {
            palette[*place] = *colour;
        }
        let indices = colours.map(|colour| places.get(&colour?).copied());
        (palette, indices.collect())
    }

    fn draw(&self, palette: &[[u8; 3]], indices: &[Option<usize>]) -> String {
        // P2 = 1: what is not painted stays as it is. Then pixels that are square, and the size.
        let mut text = format!("\x1bP0;1;0q\"1;1;{};{}", self.width, self.height);
        for (number, colour) in palette.iter().enumerate() {
            let [r, g, b] = colour.map(|part| (u32::from(part) * 100 + 127) / 255);
            text.push_str(&format!("#{number};2;{r};{g};{b}"));
        }
        let mut masks = vec![Vec::new(); palette.len()];
        for band in indices.chunks(self.width * 6) {
            for (row, pixels) in band.chunks(self.width).enumerate() {
                for (x, place) in pixels.iter().enumerate() {
                    if let Some(mask) = place.and_then(|place| masks.get_mut(place)) {
                        mask.resize(self.width, 0_u8);
                        mask[x] |= 1 << row;
                    }
                }
            }
            let drawn = masks.iter_mut().enumerate().filter(|(_, m)| !m.is_empty());
            for (number, mask) in drawn {
                text.push_str(&format!("#{number}"));
                push_runs(&mut text, mask);
                text.push('$');
                mask.clear();
            }
            text.push('-');
        }
        text.push_str("\x1b\\");
        text
    }
}

/// The colour in which a pixel is painted, if it is.
fn painted([r, g, b, alpha]: [u8; 4]) -> Option<[u8; 3]> {
    (alpha >= OPAQUE).then_some([r, g, b])
}

/// One line of sixels, what repeats counted; nothing at its end is left out.
fn push_runs(text: &mut String, mask: &[u8]) {
    let end = mask.iter().rposition(|sixel| *sixel != 0);
    let mask = &mask[..end.map_or(0, |end| end + 1)];
    for run in mask.chunk_by(|one, next| one == next) {
        let sixel = char::from(b'?' + run[0]);
        if run.len() < RUN_MIN {
            text.extend(std::iter::repeat_n(sixel, run.len()));
        } else {
            text.push_str(&format!("!{}{sixel}", run.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(width: usize, rgba: Vec<[u8; 4]>) -> Pixels {
        let height = rgba.len() / width;
        Pixels {
            width,
            height,
            rgba,
        }
    }

    fn drawn(pixels: &Pixels) -> String {
        let (palette, indices) = pixels.coloured();
        pixels.draw(&palette, &indices)
    }

    #[test]
    fn bands_are_drawn_colour_by_colour() {
        let (red, blue) = ([255, 0, 0, 255], [0, 0, 255, 255]);
        let mut rgba = vec![red; 5 * 7];
        rgba[0] = blue;
        rgba[1] = [9, 9, 9, 0];
        // The blue pixel is the first sixel's lowest bit; the last row is a band of its own.
        assert_eq!(
            drawn(&pixels(5, rgba)),
            "\x1bP0;1;0q\"1;1;5;7#0;2;0;0;100#1;2;100;0;0#0@$#1}}~~~$-#1!5@$-\x1b\\"
        );
    }

    #[test]
    fn many_colours_become_those_there_is_room_for() {
        let shade = |at: usize| {
            let part = u8::try_from(at % 256).unwrap();
            [part, 255 - part, u8::try_from(at / 256 % 256).unwrap(), 255]
        };
        let picture = pixels(64, (0..64 * 64).map(shade).collect());
        let (palette, indices) = picture.coloured();
        assert_eq!(palette.len(), COLOURS_MAX);
        assert!(indices.iter().all(|place| place.is_some_and(|it| it < 256)));
        let far = picture.rgba.iter().zip(&indices).map(|(pixel, place)| {
            let chosen = palette[place.unwrap()];
            let parts = chosen.iter().zip(pixel);
            parts.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>()
        });
        assert!(far.max().unwrap() < 96);
    }

    #[test]
    fn what_is_too_wide_is_made_smaller() {
        let column = |at: usize| match at % 4 {
            0 | 1 => [0, 0, 0, 255],
            _ => [200, 100, 50, 255],
        };
        let small = pixels(4, (0..16).map(column).collect()).narrowed(2);
        assert_eq!((small.width, small.height), (2, 2));
        assert_eq!(small.rgba, [[0, 0, 0, 255], [200, 100, 50, 255]].repeat(2));
        assert_eq!(pixels(3, vec![[0; 4]; 3]).narrowed(3).width, 3);
    }

    #[test]
    fn what_is_no_png_is_not_drawn() {
        assert_eq!(of_png(b"\x89PNG\r\n\x1a\n and no more", 100), None);
        assert_eq!(of_png(b"", 100), None);
    }
}
