//! Text of others, made fit to be shown: cut, with nothing in it that acts.

/// Longest text of a model or a teacher that is shown, characters.
const LONGEST: usize = 1500;

/// A text whose control and direction characters are visible, so that they neither act nor hide; line breaks and tabs
/// stay.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if acts {
            shown.push_str(&format!("‹U+{:04X}›", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A text of a model or a teacher, cut where it is long.
pub(super) fn short(text: &str) -> String {
    if tasks::gpqa::sealed(text) {
        return "(sealed: shown only to models)".to_owned();
    }
    long(text, LONGEST)
}

/// A text cut at so many characters, with a note of what is left out.
pub(super) fn long(text: &str, longest: usize) -> String {
    let kept = head(text, longest);
    match text[kept.len()..].chars().count() {
        0 => kept.to_owned(),
        more => format!("{kept} … ({more} more characters left out)"),
    }
}

/// A text in so many characters.
pub(super) fn truncated(text: &str, longest: usize) -> String {
    let kept = head(text, longest);
    if kept.len() < text.len() { format!("{kept}…") } else { kept.to_owned() }
}

/// The first characters of a text.
pub(super) fn head(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
}

/// `12.3 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e3 => format!("{bytes} B"),
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}

/// A number in few characters: four figures that count.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if value.fract() == 0.0 && size < 1e9 {
        return format!("{value:.0}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
