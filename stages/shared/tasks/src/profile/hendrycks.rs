//! `is_equiv` of Hendrycks et al., Measuring Mathematical Problem Solving (2103.03874).

use super::{Found, fix_fractions, fix_slash, last_boxed};

pub(super) fn judge(gold: &str, text: &str) -> Found {
    Found::new(last_boxed(text).map(str::to_owned), "box", |answer| is_equiv(gold, answer))
}

/// Whether two answers are the same string once stripped; where stripping fails, as they are.
pub(super) fn is_equiv(a: &str, b: &str) -> bool {
    match strip(a).zip(strip(b)) {
        Some((a, b)) => a == b,
        None => a == b,
    }
}

/// The order of the steps matters. `None` where the original raises an error.
fn strip(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for (from, to) in [
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ] {
        text = text.replace(from, to);
    }
    if text.contains("\\text{ ") {
        // What stands before the unit; two units are an error.
        let mut parts = text.split("\\text{ ");
        let value = parts.next()?.to_owned();
        if parts.count() != 1 {
            return None;
        }
        text = value;
    }
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    if let Some((name, value)) = text.split_once('=')
        && !value.contains('=')
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    text = fix_roots(&text)?.replace(' ', "");
    text = fix_fractions(&text)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    fix_slash(&text)
}

/// `\sqrt3` as `\sqrt{3}`.
fn fix_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut fixed = parts.next()?.to_owned();
    for part in parts {
        fixed.push_str("\\sqrt");
        let first = part.chars().next()?;
        if first == '{' {
            fixed.push_str(part);
        } else {
            fixed.push_str(&format!("{{{first}}}{}", &part[first.len_utf8()..]));
        }
    }
    Some(fixed)
}
