//! A program in a terminal: keys go in, and the screen is what a person would see.

use std::{
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use ptyprocess::PtyProcess;

use super::until;

const ROWS: u16 = 40;
const COLUMNS: u16 = 80;

/// A program in a terminal; it ends with the test.
pub(crate) struct Terminal {
    process: PtyProcess,
    keys: std::fs::File,
    screen: Arc<Mutex<vt100::Parser>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn run(command: Command) -> Self {
        let mut process = PtyProcess::spawn(command).unwrap();
        process.set_window_size(COLUMNS, ROWS).unwrap();
        process.set_terminate_delay(Duration::from_millis(100));
        let own = |fd: &dyn AsFd| -> OwnedFd { fd.as_fd().try_clone_to_owned().unwrap() };
        let handle = process.get_raw_handle().unwrap();
        let keys = std::fs::File::from(own(&handle));
        let mut output = std::fs::File::from(own(&handle));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 1000)));
        let shown = Arc::clone(&screen);
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let seen = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().extend_from_slice(&bytes[..length]);
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self {
            process,
            keys,
            screen,
            written,
        }
    }

    /// Whether anything but text has been written so far.
    pub(crate) fn had_escapes(&self) -> bool {
        self.written().contains('\x1b')
    }

    /// Everything that was written so far, escape sequences and all.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Makes the window so many columns wide.
    pub(crate) fn resize(&mut self, columns: u16) {
        let mut screen = self.screen.lock().unwrap();
        screen.screen_mut().set_size(ROWS, columns);
        self.process.set_window_size(columns, ROWS).unwrap();
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Every line of the screen that shows something.
    pub(crate) fn shown(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let lines: Vec<_> = screen
            .screen()
            .rows(0, COLUMNS)
            .map(|row| row.trim_end().to_owned())
            .collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until the screen is as wished.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let showing = Showing(self);
        let shown = until(what, || Some(self.shown()).filter(|shown| is_so(shown)));
        std::mem::forget(showing);
        shown
    }

    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait(text, |shown| shown.contains(text))
    }

    /// Waits for an empty prompt on the last line.
    pub(crate) fn ready(&self) -> String {
        self.wait("prompt", |shown| shown.ends_with("\n>>>"))
    }

    pub(crate) fn enter(&mut self, line: &str) {
        self.press(line);
        self.wait(line, |shown| shown.ends_with(line.trim_end()));
        self.press("\r");
    }

    /// Waits for the program's own end.
    pub(crate) fn ended(&self) {
        let showing = Showing(self);
        until("the program's end", || {
            (!self.process.is_alive().unwrap()).then_some(())
        });
        std::mem::forget(showing);
    }
}

/// Shows the screen if what was waited for did not come.
struct Showing<'a>(&'a Terminal);

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        eprintln!("--- the screen\n{}\n---", self.0.shown());
    }
}
