//! One stage as written.

use std::collections::BTreeMap;

use super::fields::{check_name, expected, fields, name_list, required, text, whole_number};
use super::{executor, mapping, matrix};
use crate::recipe::{
    Diagnostic, ExecutorDecl, Need, Node, NodeValue, ResourcesDecl, Selector, Spanned, StageDecl,
};

const KEYS: &[&str] = &["uses", "with", "needs", "matrix", "resources", "retries", "executor"];

/// Reads `stages`. `None` where a stage lacks what others would be checked against.
pub(super) fn stages(
    node: &Node,
    pools: &BTreeMap<String, usize>,
    executor: &ExecutorDecl,
    out: &mut Vec<Diagnostic>,
) -> Option<Vec<StageDecl>> {
    if node.entries().is_none() {
        out.push(expected(node, "`stages`", "a mapping from names to stages"));
    }
    let entries = node.entries()?;
    let stages: Vec<Option<StageDecl>> =
        entries.iter().map(|(name, node)| stage(name, node, pools, executor, out)).collect();
    stages.into_iter().collect()
}

fn stage(
    name: &Spanned<String>,
    node: &Node,
    pools: &BTreeMap<String, usize>,
    executor: &ExecutorDecl,
    out: &mut Vec<Diagnostic>,
) -> Option<StageDecl> {
    check_name(name, "stage", out);
    let what = format!("stage `{}`", name.value);
    let fields = fields(node, &what, KEYS, out)?;
    let uses = required(&fields, "uses", &what, name.span, out)
        .and_then(|node| text(node, &format!("`uses` of {what}"), "the name of a kind", out));
    let with = match fields.get("with") {
        None => Some(Node::empty_mapping(name.span)),
        Some(node) => match &node.value {
            NodeValue::Mapping(_) => Some((*node).clone()),
            NodeValue::Scalar(serde_json::Value::Null) => Some(Node::empty_mapping(node.span)),
            NodeValue::Scalar(_) | NodeValue::Sequence(_) => {
                out.push(expected(node, &format!("`with` of {what}"), "a mapping of params"));
                None
            }
        },
    };
    let needs = fields.get("needs").map_or(Some(Vec::new()), |node| needs(node, &what, out));
    let matrix = fields.get("matrix").map_or(Some(Matrix::default()), |node| matrix_of(node, &what, out));
    let resources = fields
        .get("resources")
        .map_or_else(ResourcesDecl::default, |node| resources(node, &what, pools, out));
    let retries = fields
        .get("retries")
        .and_then(|node| whole_number(node, &format!("`retries` of {what}"), 0, 100, out))
        .and_then(|retries| u32::try_from(retries).ok())
        .unwrap_or(0);
    let executor = fields
        .get("executor")
        .map_or_else(|| executor.clone(), |node| executor::executor(node, &what, executor, out));
    let Matrix { axes, include, exclude } = matrix?;
    Some(StageDecl {
        name: name.clone(),
        uses: uses?,
        with: with?,
        needs: needs?,
        axes,
        include,
        exclude,
        resources,
        retries,
        executor,
    })
}

fn needs(node: &Node, what: &str, out: &mut Vec<Diagnostic>) -> Option<Vec<Need>> {
    if !node.is_null() && node.entries().is_none() {
        out.push(expected(node, &format!("`needs` of {what}"), "a mapping from ports to stages"));
        return None;
    }
    let mut needs = Vec::new();
    let mut complete = true;
    for (port, node) in node.entries().unwrap_or(&[]) {
        let what = format!("port `{}` of {what}", port.value);
        let shape = "`stage` or `stage.port`";
        let Some(from) = name_list(node, &what, shape, out) else {
            complete = false;
            continue;
        };
        for name in &from {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
            let parts = name.value.split('.');
            if parts.clone().count() > 2
                || parts.clone().any(|part| part.is_empty() || !part.chars().all(inner))
            {
                let node = Node::string(name.value.clone(), name.span);
                out.push(expected(&node, &what, shape));
                complete = false;
            }
        }
        needs.push(Need { port: port.clone(), from });
    }
    complete.then_some(needs)
}

#[derive(Default)]
struct Matrix {
    axes: Vec<Spanned<String>>,
    include: Vec<Selector>,
    exclude: Vec<Selector>,
}

fn matrix_of(node: &Node, what: &str, out: &mut Vec<Diagnostic>) -> Option<Matrix> {
    let what = format!("`matrix` of {what}");
    let axes_of = |node: &Node, out: &mut Vec<Diagnostic>| match node.items() {
        Some([]) => Some(Vec::new()),
        Some(_) => name_list(node, &what, "an axis", out),
        None => {
            let mut diagnostic = expected(node, &what, "a list of axes");
            if let Some(axis) = node.as_str() {
                diagnostic = diagnostic.help(format!("write `[{axis}]`"));
            }
            out.push(diagnostic);
            None
        }
    };
    if node.entries().is_none() {
        return Some(Matrix { axes: axes_of(node, out)?, ..Matrix::default() });
    }
    let fields = fields(node, &what, &["axes", "include", "exclude"], out)?;
    let axes = required(&fields, "axes", &what, node.span, out).and_then(|node| axes_of(node, out));
    let mut selectors = |key: &str| match fields.get(key) {
        Some(node) => matrix::selectors(node, &format!("`{key}` in {what}"), out),
        None => Some(Vec::new()),
    };
    let (include, exclude) = (selectors("include"), selectors("exclude"));
    Some(Matrix { axes: axes?, include: include?, exclude: exclude? })
}

fn resources(
    node: &Node,
    what: &str,
    pools: &BTreeMap<String, usize>,
    out: &mut Vec<Diagnostic>,
) -> ResourcesDecl {
    let what = format!("`resources` of {what}");
    let Some(fields) = fields(node, &what, &["cpu", "memory", "devices", "priority", "pools"], out) else {
        return ResourcesDecl::default();
    };
    let mut count = |key: &str, least: u64| {
        let node = fields.get(key)?;
        let count = whole_number(node, &format!("`{key}` in {what}"), least, 1 << 16, out)?;
        usize::try_from(count).ok()
    };
    let (cpu, devices) = (count("cpu", 1), count("devices", 0));
    let memory = fields.get("memory").and_then(|node| {
        let bytes = bytes(node);
        if bytes.is_none() {
            let what = format!("`memory` in {what}");
            out.push(expected(node, &what, "a size such as `2GiB`, or a number of bytes"));
        }
        bytes
    });
    let priority = fields.get("priority").and_then(|node| {
        let priority = node.scalar().and_then(serde_json::Value::as_i64);
        let priority = priority.and_then(|priority| i32::try_from(priority).ok());
        if priority.is_none() {
            out.push(expected(node, &format!("`priority` in {what}"), "a whole number"));
        }
        priority
    });
    let mut taken = BTreeMap::new();
    if let Some(node) = fields.get("pools") {
        let what = format!("`pools` in {what}");
        for (pool, node) in mapping(node, &what, "a mapping from pools to units", out) {
            let Some(&size) = pools.get(&pool.value) else {
                out.push(
                    Diagnostic::at(pool.span, format!("no pool is named `{}`", pool.value))
                        .suggest(&pool.value, pools.keys().map(String::as_str))
                        .help("pools are declared in the recipe: `resources: {pools: {NAME: SIZE}}`"),
                );
                continue;
            };
            let what = format!("pool `{}` in {what}", pool.value);
            if let Some(units) = whole_number(node, &what, 1, size as u64, out) {
                taken.insert(pool.value.clone(), usize::try_from(units).unwrap_or(size));
            }
        }
    }
    ResourcesDecl { cpu, memory, devices, priority: priority.unwrap_or(0), pools: taken }
}

/// A number of bytes, or a number with a unit.
pub(super) fn bytes(node: &Node) -> Option<u64> {
    if let Some(bytes) = node.scalar()?.as_u64() {
        return Some(bytes);
    }
    let text = node.as_str()?.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let scale: u64 = match unit.trim() {
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * scale as f64;
    // Far above any machine's memory, and far below where a float loses whole bytes.
    (bytes < 1e15).then_some(bytes as u64)
}
