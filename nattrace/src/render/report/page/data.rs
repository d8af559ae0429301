//! The steps of packets that have no room in the page's own text, for its script.

use std::collections::HashMap;
use std::io;

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use crate::render::layout::Row;
use crate::render::report::words::class;
use crate::render::style::Span;

/// A row as the script takes it: label, place, and the parts of the text, each with its class.
type Told = (Part, Option<String>, Vec<Part>);
/// A text, and its class where it has one.
type Part = (String, Option<&'static str>);

/// Rows, each once: most are those of many packets.
#[derive(Debug, Default)]
pub(super) struct Steps {
    rows: Vec<Told>,
    known: HashMap<Told, usize>,
    packets: Vec<Vec<usize>>,
}

impl Steps {
    /// Takes a packet's rows. Gives the number by which the script finds them.
    pub(super) fn add(&mut self, rows: &[Row]) -> usize {
        let told = rows.iter().map(|row| self.row(row)).collect();
        self.packets.push(told);
        self.packets.len() - 1
    }

    fn row(&mut self, row: &Row) -> usize {
        let part = |span: &Span| (span.text().to_owned(), class(span.role));
        let told: Told = (
            part(&row.label),
            row.place.as_ref().map(|place| place.text().to_owned()),
            row.text.iter().map(part).collect(),
        );
        let next = self.rows.len();
        let Some(at) = self.known.get(&told) else {
            self.rows.push(told.clone());
            self.known.insert(told, next);
            return next;
        };
        *at
    }

    /// All of it, as a block of data that no browser runs.
    pub(super) fn script(&self) -> Markup {
        #[derive(Serialize)]
        struct Body<'a> {
            rows: &'a [Told],
            packets: &'a [Vec<usize>],
        }
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, InScript);
        // Writing into memory fails for no value that has these types; if it did, the script would find nothing.
        let _ = Body { rows: &self.rows, packets: &self.packets }.serialize(&mut serializer);
        html! {
            script type="application/json" id="steps" { (PreEscaped(String::from_utf8_lossy(&json))) }
        }
    }
}

/// JSON in which no text can end the script element that it stands in, or begin a comment there
/// (<https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements>).
struct InScript;

impl serde_json::ser::Formatter for InScript {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        for piece in text.split_inclusive('<') {
            match piece.strip_suffix('<') {
                Some(before) => {
                    writer.write_all(before.as_bytes())?;
                    writer.write_all(br"\u003c")?;
                }
                None => writer.write_all(piece.as_bytes())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::Role;

    #[test]
    fn no_text_ends_the_script() {
        let hostile = "</script><!--<script>\u{2028}\"\\";
        let row = Row {
            label: Span::new(Role::Label, hostile),
            place: Some(Span::new(Role::Faint, hostile)),
            text: vec![Span::new(Role::Rule, hostile)],
        };
        let mut steps = Steps::default();
        assert_eq!((steps.add(&[row.clone(), row.clone()]), steps.add(&[row])), (0, 1));
        let markup = steps.script().into_string();
        let json =
            markup.strip_prefix("<script type=\"application/json\" id=\"steps\">").expect("the element");
        let json = json.strip_suffix("</script>").expect("its end");
        assert!(!json.contains('<'), "{json}");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(value["packets"], serde_json::json!([[0, 0], [0]]));
        assert_eq!(value["rows"][0][1], r#"</script><!--<script>\u{2028}"\"#);
    }
}
