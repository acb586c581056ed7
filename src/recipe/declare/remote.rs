//! A remote cache, as written: `remote: s3://bucket/prefix` or `remote: {url: .., access: read}`.

use std::path::Path;

use super::fields::{expected, fields, required, text};
use crate::{
    recipe::{Diagnostic, Node, RemoteDecl},
    remote::{Access, Place, PlaceError},
};

/// Reads a `remote`.
pub(super) fn remote(node: &Node, out: &mut Vec<Diagnostic>) -> Option<RemoteDecl> {
    if node.is_null() {
        return None;
    }
    let (url, access) = match node.entries() {
        None => (text(node, "`remote`", "a URL, a folder, or `{url: .., access: ..}`", out)?, None),
        Some(_) => {
            let fields = fields(node, "`remote`", &["url", "access"], out)?;
            let url = required(&fields, "url", "`remote`", node.span, out)?;
            let url = text(url, "`url` in `remote`", "a URL or a folder", out)?;
            (url, fields.get("access").and_then(|node| access(node, out)))
        }
    };
    match Place::parse(&url.value, Path::new("")) {
        Ok(_) => Some(RemoteDecl { url, access }),
        Err(error) => {
            // Where a password may stand, the line of the recipe is not shown.
            let mistake = match error {
                PlaceError::Credentials => {
                    Diagnostic::general(format!("`remote` in line {}: {error}", node.span.line))
                }
                _ => Diagnostic::at(node.span, format!("`remote`: {error}")),
            };
            out.push(mistake.help(error.help()));
            None
        }
    }
}

fn access(node: &Node, out: &mut Vec<Diagnostic>) -> Option<Access> {
    let access = node.as_str().and_then(Access::parse);
    if access.is_none() {
        let what = format!("`{}`", Access::NAMES.join("`, `"));
        out.push(expected(node, "`access` in `remote`", &what));
    }
    access
}
