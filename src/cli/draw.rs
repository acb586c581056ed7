//! `graph`: the stages of a recipe, the matrix folded, as text, Mermaid, DOT or SVG.

use std::fmt::Write as _;

use petgraph::{Direction, algo::toposort, graph::NodeIndex};

use crate::graph::{Graph, StageNode};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GraphFormat {
    /// One stage a line, with what it reads.
    Text,
    /// A Mermaid flowchart.
    Mermaid,
    /// A Graphviz digraph.
    Dot,
    /// A picture.
    Svg,
}

pub(super) fn draw(graph: &Graph, format: GraphFormat) -> String {
    match format {
        GraphFormat::Text => text(graph),
        GraphFormat::Mermaid => mermaid(graph),
        GraphFormat::Dot => dot(graph),
        GraphFormat::Svg => svg(graph),
    }
}

/// `dataset, task, 3 cells`
fn about(stage: &StageNode) -> String {
    let axes = if stage.axes.is_empty() { String::new() } else { format!(" [{}]", stage.axes.join(", ")) };
    let cells = stage.cells.len();
    format!("{}{axes}, {cells} {}", stage.kind.name(), if cells == 1 { "cell" } else { "cells" })
}

/// Stage indices, producers first.
fn order(graph: &Graph) -> Vec<usize> {
    let stages = graph.stage_graph();
    let sorted = toposort(&stages, None).expect("a checked recipe has no cycle");
    sorted.into_iter().map(|node| stages[node]).collect()
}

/// (producer, consumer, input port), without repeats.
fn edges(graph: &Graph) -> Vec<(usize, usize, &'static str)> {
    let mut edges: Vec<_> = graph
        .stages
        .iter()
        .enumerate()
        .flat_map(|(to, stage)| stage.needs.iter().map(move |(from, _, port)| (*from, to, *port)))
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn text(graph: &Graph) -> String {
    let mut text = String::new();
    for stage in order(graph) {
        let node = &graph.stages[stage];
        let reads: Vec<String> = edges(graph)
            .into_iter()
            .filter(|edge| edge.1 == stage)
            .map(|(from, _, port)| {
                let from = &graph.stages[from].name;
                if from == port { port.to_owned() } else { format!("{port} of {from}") }
            })
            .collect();
        let arrow = if reads.is_empty() { String::new() } else { format!(" <- {}", reads.join(", ")) };
        writeln!(text, "{} ({}){arrow}", node.name, about(node)).ok();
    }
    text
}

fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, stage) in graph.stages.iter().enumerate() {
        writeln!(text, "  s{index}[\"{}<br>{}\"]", stage.name, about(stage)).ok();
    }
    for (from, to, port) in edges(graph) {
        writeln!(text, "  s{from} -->|{port}| s{to}").ok();
    }
    text
}

fn dot(graph: &Graph) -> String {
    let mut text =
        String::from("digraph recipe {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for (index, stage) in graph.stages.iter().enumerate() {
        writeln!(text, "  s{index} [label=\"{}\\n{}\"];", stage.name, about(stage)).ok();
    }
    for (from, to, port) in edges(graph) {
        writeln!(text, "  s{from} -> s{to} [label=\"{port}\"];").ok();
    }
    text.push_str("}\n");
    text
}

/// Boxes in columns by distance from the start, joined by curves.
fn svg(graph: &Graph) -> String {
    const WIDTH: usize = 190;
    const HEIGHT: usize = 44;
    const GAP_X: usize = 70;
    const GAP_Y: usize = 20;
    let stages = graph.stage_graph();
    let mut column = vec![0; graph.stages.len()];
    for stage in order(graph) {
        let before = stages.neighbors_directed(NodeIndex::new(stage), Direction::Incoming);
        column[stage] = before.map(|node| column[stages[node]] + 1).max().unwrap_or(0);
    }
    let mut filled = vec![0; graph.stages.len() + 1];
    let mut place = Vec::new();
    for &column in &column {
        place.push((20 + column * (WIDTH + GAP_X), 20 + filled[column] * (HEIGHT + GAP_Y)));
        filled[column] += 1;
    }
    let width = 40 + (column.iter().max().unwrap_or(&0) + 1) * (WIDTH + GAP_X) - GAP_X;
    let height = 40 + filled.iter().max().unwrap_or(&1) * (HEIGHT + GAP_Y) - GAP_Y;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (from, to, port) in edges(graph) {
        let (x, y) = (place[from].0 + WIDTH, place[from].1 + HEIGHT / 2);
        let (end_x, end_y) = (place[to].0, place[to].1 + HEIGHT / 2);
        let middle = usize::midpoint(x, end_x);
        writeln!(
            text,
            "<path d=\"M{x} {y} C{middle} {y} {middle} {end_y} {end_x} {end_y}\" fill=\"none\" stroke=\"#667\"><title>{port}</title></path>"
        )
        .ok();
    }
    for (stage, (x, y)) in graph.stages.iter().zip(&place) {
        writeln!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"#eef2f8\" stroke=\"#445\"/>\n\
             <text x=\"{}\" y=\"{}\" font-size=\"14\" fill=\"#112\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" font-size=\"11\" fill=\"#445\">{}</text>",
            x + 10, y + 18, stage.name, x + 10, y + 34, about(stage)
        )
        .ok();
    }
    text.push_str("</svg>\n");
    text
}
