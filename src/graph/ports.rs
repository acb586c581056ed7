//! Joins what stages need to what stages make.

use contract::{Kind, Port};

use super::{Draft, DraftNeed, StageNode, named};
use crate::recipe::{Diagnostic, Recipe, Spanned};

/// Joins `needs` to ports by name and type.
pub(super) fn join(recipe: &Recipe, drafts: &mut [Draft<'_>], mistakes: &mut Vec<Diagnostic>) {
    let known: Vec<(String, Option<&'static dyn Kind>, bool)> =
        drafts.iter().map(|draft| (draft.name.clone(), draft.kind, draft.table)).collect();
    for (index, stage) in recipe.stages.iter().enumerate() {
        let Some(kind) = drafts[index].kind else { continue };
        for need in &stage.needs {
            let Some(port) = kind.inputs().iter().find(|port| port.name == need.port.value) else {
                let names = kind.inputs().iter().map(|port| port.name);
                let message = format!("kind `{}` has no input port `{}`", kind.name(), need.port.value);
                mistakes.push(Diagnostic::at(need.port.span, message).suggest(&need.port.value, names));
                continue;
            };
            for from in &need.from {
                match resolve_need(*port, from, &known, mistakes) {
                    Some(need) => drafts[index].needs.push(need),
                    None => drafts[index].unjoined.push(port.name),
                }
            }
        }
    }
    let first_table = recipe.stages.len();
    for (offset, table) in recipe.tables.iter().enumerate() {
        let draft = &mut drafts[first_table + offset];
        let Some((port, others)) = draft.kind.and_then(|kind| kind.inputs().split_first()) else { continue };
        match &table.from {
            Some(from) => {
                for from in from {
                    // What the first port does not take goes to the port that does.
                    let port = match others
                        .iter()
                        .find(|other| !makes(from, *port, &known) && makes(from, **other, &known))
                    {
                        Some(other) => other,
                        None => port,
                    };
                    match resolve_need(*port, from, &known, mistakes) {
                        Some(need) => draft.needs.push(need),
                        None => draft.unjoined.push(port.name),
                    }
                }
            }
            None => {
                for (stage, (_, kind, _)) in known.iter().enumerate() {
                    let outputs = kind.map_or(&[][..], |kind| kind.outputs());
                    for output in outputs.iter().filter(|output| output.artifact == port.artifact) {
                        draft.needs.push(DraftNeed { port: *port, span: draft.span, stage, output: *output });
                    }
                }
            }
        }
    }
}

/// Whether `stage` or `stage.port` is something that a port takes.
fn makes(from: &Spanned<String>, port: Port, known: &[(String, Option<&'static dyn Kind>, bool)]) -> bool {
    let (stage, output) = from.value.split_once('.').unwrap_or((&from.value, ""));
    let kind = known.iter().find(|(name, _, _)| name == stage).and_then(|(_, kind, _)| *kind);
    let mut outputs = kind.map_or(&[][..], |kind| kind.outputs()).iter();
    outputs.any(|made| made.artifact == port.artifact && (output.is_empty() || output == made.name))
}

fn resolve_need(
    port: Port,
    from: &Spanned<String>,
    known: &[(String, Option<&'static dyn Kind>, bool)],
    mistakes: &mut Vec<Diagnostic>,
) -> Option<DraftNeed> {
    let (stage_name, output_name) = match from.value.split_once('.') {
        Some((stage, output)) => (stage, Some(output)),
        None => (from.value.as_str(), None),
    };
    let Some(stage) = known.iter().position(|(name, _, _)| name == stage_name) else {
        let names = known.iter().filter(|(_, _, table)| !table).map(|(name, _, _)| name.as_str());
        let message = format!("no stage is called `{stage_name}`");
        mistakes.push(Diagnostic::at(from.span, message).suggest(stage_name, names));
        return None;
    };
    let kind = known[stage].1?;
    let of_type: Vec<&Port> =
        kind.outputs().iter().filter(|output| output.artifact == port.artifact).collect();
    let wanted = port.artifact.name();
    let output = match (output_name, of_type.as_slice()) {
        (Some(name), _) => match kind.outputs().iter().find(|output| output.name == name) {
            Some(output) if output.artifact == port.artifact => output,
            Some(output) => {
                let message = format!(
                    "port `{}` takes `{wanted}`, and `{stage_name}.{name}` is `{}`",
                    port.name,
                    output.artifact.name()
                );
                mistakes.push(Diagnostic::at(from.span, message));
                return None;
            }
            None => {
                let names = kind.outputs().iter().map(|output| output.name);
                let message = format!("stage `{stage_name}` has no output port `{name}`");
                mistakes.push(Diagnostic::at(from.span, message).suggest(name, names));
                return None;
            }
        },
        (None, [only]) => *only,
        (None, []) => {
            let types: Vec<String> =
                kind.outputs().iter().map(|output| format!("`{}`", output.artifact.name())).collect();
            let message = format!(
                "port `{}` takes `{wanted}`, and stage `{stage_name}` makes {}",
                port.name,
                if types.is_empty() { "nothing".to_owned() } else { types.join(" and ") }
            );
            mistakes.push(Diagnostic::at(from.span, message));
            return None;
        }
        (None, several) => {
            let names: Vec<String> =
                several.iter().map(|output| format!("`{stage_name}.{}`", output.name)).collect();
            let message = format!("stage `{stage_name}` has several outputs of type `{wanted}`");
            mistakes.push(Diagnostic::at(from.span, message).help(format!("name one: {}", names.join(", "))));
            return None;
        }
    };
    Some(DraftNeed { port, span: from.span, stage, output: *output })
}

/// A required port that `needs` does not name.
pub(super) fn missing(draft: &Draft<'_>, port: Port, stages: &[StageNode]) -> Diagnostic {
    let message = format!("{} needs port `{}`, which nothing provides", named(draft), port.name);
    let offers: Vec<String> = stages
        .iter()
        .filter(|stage| stage.name != draft.name)
        .flat_map(|stage| stage.kind.outputs().iter().map(move |output| (stage, output)))
        .filter(|(_, output)| output.artifact == port.artifact)
        .map(|(stage, output)| format!("`{}.{}`", stage.name, output.name))
        .collect();
    let mistake = Diagnostic::at(draft.span, message);
    if offers.is_empty() {
        mistake.help(format!("no stage makes `{}` yet", port.artifact.name()))
    } else {
        mistake.help(format!("add it to `needs`; of this type: {}", offers.join(", ")))
    }
}
