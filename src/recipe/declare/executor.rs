//! Where cells are computed, as written: `executor: local`, `executor: slurm` or `executor: {slurm: {..}}`.

use super::fields::{expected, fields, text, whole_number};
use super::stage::bytes;
use crate::recipe::{AtOnce, Diagnostic, ExecutorDecl, Node, SlurmDecl};

const KEYS: &[&str] = &[
    "partition",
    "account",
    "qos",
    "time",
    "gres",
    "cpus",
    "mem",
    "constraint",
    "prologue",
    "options",
    "at_once",
    "warn",
    "poll",
    "resubmit",
];

/// Reads an `executor`. What a stage's Slurm block leaves out, it takes from the recipe's, which is `base`.
pub(super) fn executor(
    node: &Node,
    what: &str,
    base: &ExecutorDecl,
    out: &mut Vec<Diagnostic>,
) -> ExecutorDecl {
    let what = format!("`executor` of {what}");
    let inherited = match base {
        ExecutorDecl::Slurm(slurm) => slurm.as_ref().clone(),
        ExecutorDecl::Local => SlurmDecl::default(),
    };
    match node.as_str() {
        Some("local") => return ExecutorDecl::Local,
        Some("slurm") => return ExecutorDecl::Slurm(Box::new(inherited)),
        Some(_) | None => {}
    }
    if node.entries().is_none() {
        out.push(expected(node, &what, "`local`, `slurm` or `{slurm: {..}}`"));
        return ExecutorDecl::Local;
    }
    let Some(node) = fields(node, &what, &["slurm"], out).and_then(|fields| fields.get("slurm").copied())
    else {
        return ExecutorDecl::Local;
    };
    ExecutorDecl::Slurm(Box::new(slurm(node, &what, inherited, out)))
}

fn slurm(node: &Node, what: &str, mut slurm: SlurmDecl, out: &mut Vec<Diagnostic>) -> SlurmDecl {
    let what = format!("`slurm` in {what}");
    let Some(fields) = fields(node, &what, KEYS, out) else { return slurm };
    let mut word = |key: &str, field: &mut Option<String>| {
        let Some(node) = fields.get(key) else { return };
        let text = text(node, &format!("`{key}` in {what}"), "a text", out);
        *field = text.map(|text| text.value).or(field.take());
    };
    word("partition", &mut slurm.partition);
    word("account", &mut slurm.account);
    word("qos", &mut slurm.qos);
    word("gres", &mut slurm.gres);
    word("constraint", &mut slurm.constraint);
    if let Some(node) = fields.get("time") {
        let written = match node.scalar().and_then(serde_json::Value::as_u64) {
            Some(minutes) => Some(minutes.to_string()),
            None => node.as_str().map(str::to_owned),
        };
        match written.filter(|time| seconds(time).is_some()) {
            Some(time) => slurm.time = Some(time),
            None => out.push(
                expected(node, &format!("`time` in {what}"), "a time such as `\"02:30:00\"` or `1-12`").help(
                    "as Slurm takes it: minutes, `h:mm:ss`, `days-hours`; in quotes where it has a `:`",
                ),
            ),
        }
    }
    if let Some(node) = fields.get("mem") {
        match bytes(node) {
            Some(bytes) => slurm.mem = Some(bytes),
            None => out.push(expected(node, &format!("`mem` in {what}"), "a size such as `16GiB`")),
        }
    }
    let mut number = |key: &str, least: u64, most: u64| {
        let node = fields.get(key)?;
        whole_number(node, &format!("`{key}` in {what}"), least, most, out)
    };
    let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    slurm.cpus = number("cpus", 1, 1 << 16).map(small).or(slurm.cpus);
    let at_once = number("at_once", 1, 1 << 20).map(small);
    slurm.at_once = at_once.map(|most| AtOnce { most, written: what.clone() }).or(slurm.at_once);
    slurm.warn = number("warn", 1, 65_535).or(slurm.warn);
    slurm.poll = number("poll", 1, 3600).unwrap_or(slurm.poll);
    slurm.resubmit =
        number("resubmit", 0, 1000).and_then(|number| u32::try_from(number).ok()).unwrap_or(slurm.resubmit);
    let mut lines = |key: &str, field: &mut Vec<String>| {
        let Some(node) = fields.get(key) else { return };
        let what = format!("`{key}` in {what}");
        let items = node.items().unwrap_or(std::slice::from_ref(*node));
        let read = items.iter().filter_map(|item| text(item, &what, "a text or a list of them", out));
        *field = read.map(|text| text.value).collect();
    };
    lines("prologue", &mut slurm.prologue);
    lines("options", &mut slurm.options);
    slurm
}

/// A time limit as Slurm takes it, in seconds: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`.
pub fn seconds(time: &str) -> Option<u64> {
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
        None => (None, time),
    };
    let parts: Vec<u64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let seconds = match (days, &parts[..]) {
        (None, [minutes]) => minutes.checked_mul(60)?,
        (None, [minutes, seconds]) => minutes.checked_mul(60)?.checked_add(*seconds)?,
        (_, [hours, minutes, seconds]) => {
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(*seconds)?
        }
        (Some(_), [hours]) => hours.checked_mul(3600)?,
        (Some(_), [hours, minutes]) => hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?,
        _ => return None,
    };
    days.unwrap_or(0).checked_mul(86_400)?.checked_add(seconds).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_slurm_reads_them() {
        let cases = [
            ("90", Some(5400)),
            ("1:30", Some(90)),
            ("02:30:00", Some(9000)),
            ("1-12", Some(129_600)),
            ("1-0:30", Some(88_200)),
            ("2-00:00:01", Some(172_801)),
            ("0", None),
            ("", None),
            ("1h", None),
            ("1:2:3:4", None),
            ("99999999999999999999-1", None),
            ("213503982334602-0", None),
        ];
        for (time, expected) in cases {
            assert_eq!(seconds(time), expected, "{time}");
        }
    }
}
