//! What a person reads while local mode runs: one line for each thing done, and nothing twice in a row.

use std::collections::BTreeMap;
use std::io::Write;

/// A writer of sentences.
pub(super) struct Say<'a, W: Write> {
    out: &'a mut W,
    standing: BTreeMap<String, String>,
}

impl<'a, W: Write> Say<'a, W> {
    pub(super) fn new(out: &'a mut W) -> Self {
        Self {
            out,
            standing: BTreeMap::new(),
        }
    }

    /// Says a line at once.
    pub(super) fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Says a sentence about something when its state is another than the last time.
    pub(super) fn changed(
        &mut self,
        about: &str,
        state: &str,
        sentence: &str,
    ) -> std::io::Result<()> {
        if self
            .standing
            .insert(about.to_owned(), state.to_owned())
            .as_deref()
            == Some(state)
        {
            Ok(())
        } else {
            self.line(sentence)
        }
    }

    /// Says how something stands, when that is not what was said of it last.
    pub(super) fn standing(&mut self, about: &str, text: Option<&str>) -> std::io::Result<()> {
        match text {
            None => {
                self.standing.remove(about);
                Ok(())
            }
            Some(text) if self.standing.get(about).is_some_and(|said| said == text) => Ok(()),
            Some(text) => {
                self.standing.insert(about.to_owned(), text.to_owned());
                self.line(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Say;

    #[test]
    fn what_stands_as_it_stood_is_not_said_again() {
        let mut out = Vec::new();
        let mut say = Say::new(&mut out);
        for text in [Some("one"), Some("one"), None, Some("one"), Some("two")] {
            assert!(say.standing("topic", text).is_ok());
        }
        assert_eq!(String::from_utf8_lossy(&out), "one\none\ntwo\n");
    }
}
