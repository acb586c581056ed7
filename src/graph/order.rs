//! Which stage comes after which, and cycles.

use petgraph::{
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
};

use super::{Draft, DraftNeed};
use crate::recipe::Diagnostic;

/// Stage indices, producers first; a cycle is shown as a path.
pub(super) fn order(drafts: &mut [Draft<'_>], mistakes: &mut Vec<Diagnostic>) -> Vec<usize> {
    let mut graph: DiGraph<usize, ()> = DiGraph::new();
    let nodes: Vec<NodeIndex> = (0..drafts.len()).map(|stage| graph.add_node(stage)).collect();
    for (stage, draft) in drafts.iter().enumerate() {
        for need in &draft.needs {
            graph.add_edge(nodes[need.stage], nodes[stage], ());
        }
    }
    // Components come in reverse topological order.
    let mut components = tarjan_scc(&graph);
    components.reverse();
    let mut order = Vec::new();
    for component in &components {
        let stages: Vec<usize> = component.iter().map(|node| graph[*node]).collect();
        let cyclic = stages.len() > 1 || drafts[stages[0]].needs.iter().any(|need| need.stage == stages[0]);
        if cyclic {
            mistakes.push(cycle(drafts, &stages));
            for &stage in &stages {
                drafts[stage].spoiled = true;
            }
        }
        order.extend(stages);
    }
    order
}

/// Walks `needs` inside a component until a stage comes up again.
fn cycle(drafts: &[Draft<'_>], component: &[usize]) -> Diagnostic {
    let first = *component.iter().min().expect("a component has a stage");
    let mut path = vec![first];
    let again = loop {
        let here = path[path.len() - 1];
        let inside = |need: &&DraftNeed| component.contains(&need.stage);
        let next =
            drafts[here].needs.iter().find(inside).expect("every stage of a cycle needs another of it").stage;
        if let Some(start) = path.iter().position(|stage| *stage == next) {
            break start;
        }
        path.push(next);
    };
    let round = &path[again..];
    let names: Vec<&str> =
        round.iter().chain([&round[0]]).map(|stage| drafts[*stage].name.as_str()).collect();
    let need = drafts[round[0]].needs.iter().find(|need| component.contains(&need.stage));
    let span = need.map_or(drafts[round[0]].span, |need| need.span);
    Diagnostic::at(span, format!("stages need one another in a circle: {}", names.join(" -> ")))
}
