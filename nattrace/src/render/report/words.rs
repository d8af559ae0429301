//! Untrusted text made fit for pages and pictures, and cut to fit.

use std::borrow::Cow;

use maud::{Markup, Render, html};

use crate::render::escape::escape;
use crate::render::style::{Role, Span};

/// Text from outside. Characters that would not be seen, or that reorder others, are shown as their escapes; markup is
/// escaped where it is put into a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a>(pub(super) &'a str);

impl Render for Shown<'_> {
    fn render_to(&self, buffer: &mut String) {
        escape(self.0).as_ref().render_to(buffer);
    }
}

impl Render for Span {
    fn render(&self) -> Markup {
        let text = self.text();
        match class(self.role) {
            None => html! { (text) },
            Some(class) => html! { span class=(class) { (text) } },
        }
    }
}

/// As the style sheet calls what a text means.
pub(super) fn class(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::Plain => return None,
        Role::Title => "title",
        Role::Label => "label",
        Role::Faint => "faint",
        Role::Rule => "rule",
        Role::DropRule => "rule drop",
        Role::Nat => "nat",
        Role::Drop => "drop",
        Role::Pass => "pass",
        Role::Other => "other",
        Role::Warn => "warn",
        Role::Command => "command",
    })
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().count() <= most {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    Cow::Owned(format!("{}…", kept.trim_end()))
}

/// At most two lines of so many characters, broken between words where that is possible.
pub(super) fn two_lines(text: &str, most: usize) -> Vec<String> {
    if text.chars().count() <= most {
        return vec![text.to_owned()];
    }
    let fits = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    let (first, rest) = match text[..fits].rfind(' ').or_else(|| text[..fits].rfind('_').map(|at| at + 1)) {
        Some(at) if at > fits / 3 => text.split_at(at),
        _ => text.split_at(fits),
    };
    vec![first.trim().to_owned(), cut(rest.trim(), most).into_owned()]
}

/// `1 packet`, `6 packets`.
pub(super) fn packets(count: u64) -> String {
    number(count, "packet")
}

/// So many of them.
pub(super) fn number(count: u64, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer", 4), "grö…");
        assert_eq!(
            two_lines("by inet filter allowed_dnats handle 7", 22),
            ["by inet filter", "allowed_dnats handle 7"]
        );
        assert_eq!(two_lines("ääääääääääää", 5), ["äääää", "ääää…"]);
    }

    #[test]
    fn markup_stays_text() {
        let hostile = "</script><b>\u{202e}\x1b";
        assert_eq!(html! { (Shown(hostile)) }.into_string(), r"&lt;/script&gt;&lt;b&gt;\u{202e}\x1b");
        let span = Span::new(Role::Rule, hostile);
        assert_eq!(
            html! { (span) }.into_string(),
            r#"<span class="rule">&lt;/script&gt;&lt;b&gt;\u{202e}\x1b</span>"#
        );
    }
}
