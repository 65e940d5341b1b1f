//! The line a stream is writing: text, and a cursor that counts code points and never leaves it.

/// Capacity a finished line may leave behind for the next one. Longer lines are rare; their memory goes back.
const KEEP_CAPACITY: usize = 64 * 1024;

/// A line with a cursor that overwrites.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    cursor: usize,
    /// Byte offset of the cursor, so that writing at the end does not count its way there.
    at: usize,
}

impl Line {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Column of the cursor, in code points.
    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Writes `run`, which is `columns` code points long, over what is at the cursor.
    pub(super) fn put(&mut self, run: &str, columns: usize) {
        if self.at == self.text.len() {
            self.text.push_str(run);
        } else {
            let end = self.at + offset_of_column(&self.text[self.at..], columns);
            self.text.replace_range(self.at..end, run);
        }
        self.at += run.len();
        self.cursor += columns;
    }

    /// `\r`
    pub(super) fn carriage_return(&mut self) {
        self.cursor = 0;
        self.at = 0;
    }

    /// `\b`
    pub(super) fn backspace(&mut self) {
        if let Some(previous) = self.text[..self.at].chars().next_back() {
            self.at -= previous.len_utf8();
            self.cursor -= 1;
        }
    }

    /// Sets the cursor to a column, or to the end of the line if that is nearer.
    pub(super) fn move_to(&mut self, column: usize) {
        self.cursor = column.min(self.text.chars().count());
        self.at = offset_of_column(&self.text, self.cursor);
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEEP_CAPACITY);
        (self.cursor, self.at) = (0, 0);
    }
}

/// Byte offset of a column, or the length of a text that does not reach it.
pub(super) fn offset_of_column(text: &str, column: usize) -> usize {
    text.char_indices()
        .nth(column)
        .map_or(text.len(), |(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(line: &mut Line, run: &str) {
        line.put(run, run.chars().count());
    }

    #[test]
    fn columns_are_code_points() {
        let mut line = Line::default();
        put(&mut line, "a😀é");
        line.backspace();
        line.backspace();
        assert_eq!(line.cursor(), 1);
        put(&mut line, "x");
        assert_eq!((line.text(), line.cursor()), ("axé", 2));
        line.carriage_return();
        put(&mut line, "😀😀😀😀");
        assert_eq!((line.text(), line.cursor()), ("😀😀😀😀", 4));
    }

    #[test]
    fn a_cursor_stays_within_the_line() {
        let mut line = Line::default();
        line.backspace();
        put(&mut line, "héllo");
        line.move_to(2);
        put(&mut line, "L");
        line.move_to(99);
        assert_eq!(line.cursor(), 5);
        put(&mut line, "!");
        assert_eq!(line.text(), "héLlo!");
        line.clear();
        assert_eq!((line.text(), line.cursor()), ("", 0));
    }
}
