//! The sides of claims: `row.column`, `best(baselines).column`, `best(all).column`.
//!
//! Names may contain dots, so a side is cut where both parts are known.

/// Which row a side means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    One(usize),
    Baselines,
    All,
}

/// What can be said about a side before any result is known.
pub(crate) fn check(text: &str, baselines: Option<&[String]>) -> Result<(), String> {
    let (row, column) = text.split_once('.').unwrap_or((text, ""));
    if row.is_empty() || column.is_empty() {
        return Err(format!("`{text}` is not of the form `row.column`"));
    }
    match row {
        "best(all)" => Ok(()),
        "best(baselines)" if baselines.is_none_or(<[String]>::is_empty) => {
            Err("`best(baselines)` needs the table's `baselines`".to_owned())
        }
        "best(baselines)" => Ok(()),
        row if row.starts_with("best(") => {
            Err(format!("`{row}` is neither `best(baselines)` nor `best(all)`"))
        }
        _ => Ok(()),
    }
}

/// The row and column of a side; `Err` names what is unknown: `("row" or "column", name)`. Where the columns are not known yet,
/// every name is taken for the first.
pub(crate) fn parse(
    text: &str,
    rows: &[String],
    columns: Option<&[String]>,
) -> Result<(Rows, usize), (&'static str, String)> {
    let row_of = |name: &str| match name {
        "best(baselines)" => Some(Rows::Baselines),
        "best(all)" => Some(Rows::All),
        name => rows.iter().position(|row| row == name).map(Rows::One),
    };
    let column_of =
        |name: &str| columns.map_or(Some(0), |known| known.iter().position(|column| column == name));
    let mut problem = ("row", text.split('.').next().unwrap_or_default().to_owned());
    for (dot, _) in text.match_indices('.') {
        let (row, column) = (&text[..dot], &text[dot + 1..]);
        match (row_of(row), column_of(column)) {
            (Some(row), Some(column)) => return Ok((row, column)),
            (Some(_), None) => problem = ("column", column.to_owned()),
            (None, _) => {}
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_dots() {
        let rows = ["mind", "0.5", "a.b"].map(str::to_owned);
        let columns = ["gsm8k", "v1.5", "id"].map(str::to_owned);
        let open = |text| parse(text, &rows, None);
        let parse = |text| parse(text, &rows, Some(&columns));
        assert_eq!(parse("mind.id"), Ok((Rows::One(0), 2)));
        assert_eq!(parse("0.5.v1.5"), Ok((Rows::One(1), 1)));
        assert_eq!(parse("a.b.gsm8k"), Ok((Rows::One(2), 0)));
        assert_eq!(parse("best(baselines).id"), Ok((Rows::Baselines, 2)));
        assert_eq!(parse("best(all).gsm8k"), Ok((Rows::All, 0)));
        assert_eq!(parse("mid.id"), Err(("row", "mid".to_owned())));
        assert_eq!(parse("mind.di"), Err(("column", "di".to_owned())));
        assert_eq!(parse("0.5.x"), Err(("column", "x".to_owned())));
        assert_eq!(open("a.b.x"), Ok((Rows::One(2), 0)));
        assert_eq!(open("mid.x"), Err(("row", "mid".to_owned())));
    }

    #[test]
    fn a_side_without_a_column_is_no_side() {
        assert!(check("mind.id", None).is_ok());
        assert!(check("mind", None).is_err());
        assert!(check("mind.", None).is_err());
        assert!(check("best(all).id", None).is_ok());
        assert!(check("best(baselines).id", None).is_err());
        assert!(check("best(baselines).id", Some(&["a".to_owned()])).is_ok());
        assert!(check("best(ours).id", Some(&["a".to_owned()])).is_err());
    }
}
