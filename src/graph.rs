//! A recipe with its meaning settled: kinds exist, ports join, params are valid, the matrix is expanded, no cycles.
//!
//! A [`Graph`] can only be made from a [`Recipe`] without mistakes; [`Graph::build`] finds all of them at once. Tables
//! are cells like any other: each entry of `tables` becomes a stage `tables.<name>` of the engine's table kind.
//!
//! Nothing is read from the store here, and of external files only whether they are there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::PathBuf,
};

use contract::{ArtifactType, Kind, Port, Resources};
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use crate::{
    kinds::Kinds,
    recipe::{
        AxisValue, Diagnostic, Diagnostics, ExecutorDecl, Node, Recipe, ResourcesDecl, Scope, Selector, Span,
        Spanned, interpolate, schema, suggest,
    },
    remote::{Access, Place},
};

mod leak;
mod matrix;
mod order;
mod ports;
mod setting;

/// The name of a cell: `student[method=mind,seed=1]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellName(pub String);

impl fmt::Display for CellName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One input of a cell before it has run: an output port of another cell.
#[derive(Clone, Debug)]
pub struct Source {
    /// Index into [`Graph::cells`].
    pub cell: usize,
    /// The output port.
    pub port: &'static str,
    /// Axis labels; empty on ports that take one artifact.
    pub labels: BTreeMap<String, String>,
}

/// One instance of a stage.
pub struct Cell {
    /// Its name.
    pub name: CellName,
    /// Index into [`Graph::stages`].
    pub stage: usize,
    /// Its axis values, in the order of the stage's `matrix`.
    pub axes: Vec<(String, String)>,
    /// What it does.
    pub kind: &'static dyn Kind,
    /// Resolved params; file paths absolute.
    pub params: Value,
    /// External files in `params`: JSON pointer and absolute path.
    pub files: Vec<(String, PathBuf)>,
    /// Inputs by port, in a stable order.
    pub inputs: BTreeMap<&'static str, Vec<Source>>,
    /// The value of the axis `seed`, or 0.
    pub seed: u64,
    /// What it occupies while it runs.
    pub resources: Resources,
    /// Cells of a higher one start first.
    pub priority: i32,
    /// Slots of named pools it occupies.
    pub pools: BTreeMap<String, usize>,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// The perspectives of the completions or rationales it will make, where they are known.
    pub perspectives: Option<Vec<String>>,
}

impl Cell {
    /// The cells this one reads from, without repeats.
    pub fn upstream(&self) -> BTreeSet<usize> {
        self.inputs.values().flatten().map(|source| source.cell).collect()
    }

    /// The output ports that it makes, as its params are.
    pub fn made(&self) -> Vec<&'static str> {
        let ports = self.kind.outputs().iter().map(|port| port.name);
        ports.filter(|port| self.kind.makes(&self.params, port)).collect()
    }
}

/// A node of the recipe, before its matrix is expanded.
pub struct StageNode {
    /// Its name; tables are `tables.<name>`.
    pub name: String,
    /// What it `uses`.
    pub kind: &'static dyn Kind,
    /// Its axes.
    pub axes: Vec<String>,
    /// Its cells, indices into [`Graph::cells`].
    pub cells: Vec<usize>,
    /// Whether it came from `tables`.
    pub table: bool,
    /// Where its cells are computed; tables are made here.
    pub executor: ExecutorDecl,
    /// The stages it reads from: (stage index, output port, input port).
    pub needs: Vec<(usize, &'static str, &'static str)>,
}

/// A checked recipe.
pub struct Graph {
    /// The recipe's name.
    pub recipe: String,
    /// What cells compute on.
    pub backend: contract::Backend,
    /// Capacities of named pools.
    pub pools: BTreeMap<String, usize>,
    /// Where results are shared with other stores, and what a run does with it.
    pub remote: Option<(Place, Option<Access>)>,
    /// Stages in recipe order, tables last.
    pub stages: Vec<StageNode>,
    /// Cells in an order in which each comes after those it reads from.
    pub cells: Vec<Cell>,
    by_name: HashMap<CellName, usize>,
}

/// One stage or table as declared, on its way to becoming a [`StageNode`].
struct Draft<'r> {
    name: String,
    what: String,
    span: Span,
    kind: Option<&'static dyn Kind>,
    with: &'r Node,
    axes: Vec<Spanned<String>>,
    include: &'r [Selector],
    exclude: &'r [Selector],
    needs: Vec<DraftNeed>,
    resources: Option<&'r ResourcesDecl>,
    retries: u32,
    executor: ExecutorDecl,
    table: bool,
    /// Something is wrong with it that has been said; what follows from that is not worth saying.
    spoiled: bool,
    /// Input ports whose `needs` could not be joined.
    unjoined: Vec<&'static str>,
}

#[derive(Clone)]
struct DraftNeed {
    port: Port,
    span: Span,
    stage: usize,
    output: Port,
}

impl Graph {
    /// Settles the meaning of a recipe, or says everything that is wrong with it, `mistakes` of its shape included.
    pub fn build(
        recipe: Recipe,
        mut mistakes: Vec<Diagnostic>,
        kinds: &Kinds,
        backend: Option<&str>,
    ) -> Result<Self, Diagnostics> {
        let backend = resolve_backend(&recipe, kinds, backend, &mut mistakes);
        let mut drafts = drafts(&recipe, kinds, &mut mistakes);
        ports::join(&recipe, &mut drafts, &mut mistakes);
        let order = order::order(&mut drafts, &mut mistakes);
        let mut graph = Self {
            recipe: recipe.name.clone(),
            backend,
            pools: recipe.pools.clone(),
            remote: recipe.remote.as_ref().map(|remote| {
                let folder = recipe.sources.dir(remote.url.span.source);
                let place = Place::parse(&remote.url.value, folder);
                (place.expect("the recipe was checked"), remote.access)
            }),
            stages: Vec::new(),
            cells: Vec::new(),
            by_name: HashMap::new(),
        };
        graph.expand(&recipe, &mut drafts, &order, kinds, &mut mistakes);
        graph.refuse_leaks(&drafts, &mut mistakes);
        if mistakes.is_empty() { Ok(graph) } else { Err(Diagnostics::new(mistakes, recipe.sources)) }
    }

    /// The cell of this name.
    pub fn cell(&self, name: &str) -> Option<usize> {
        self.by_name.get(&CellName(name.to_owned())).copied()
    }

    /// Every cell a target stands for: a cell, a stage, `stage[axis=value]` with some axes, or a table's name.
    pub fn select(&self, target: &str) -> Result<Vec<usize>, TargetError> {
        if let Some(cell) = self.cell(target) {
            return Ok(vec![cell]);
        }
        let (stage, filter) = match target.split_once('[') {
            Some((stage, filter)) => (stage, Some(filter)),
            None => (target, None),
        };
        let table = format!("tables.{stage}");
        let Some(node) = self.stages.iter().find(|node| node.name == stage || node.name == table) else {
            let known: Vec<String> = self.stages.iter().map(|node| node.name.clone()).collect();
            let suggestion = suggest(stage, known.iter().map(String::as_str)).map(str::to_owned);
            return Err(TargetError::UnknownStage { stage: stage.to_owned(), suggestion, known });
        };
        let malformed = || TargetError::Filter {
            target: target.to_owned(),
            stage: node.name.clone(),
            axes: node.axes.clone(),
        };
        // Whatever is not understood is refused: without it, more cells would be meant than were written.
        let wanted: Vec<(&str, &str)> = match filter {
            None => Vec::new(),
            Some(filter) => {
                let pairs = filter.strip_suffix(']').ok_or_else(malformed)?.split(',');
                let known = |(axis, _): &(&str, &str)| node.axes.iter().any(|name| name == axis);
                let pairs = pairs.map(|pair| pair.split_once('=').filter(known).ok_or_else(malformed));
                pairs.collect::<Result<_, _>>()?
            }
        };
        let matches = |cell: &&usize| {
            let axes = &self.cells[**cell].axes;
            wanted.iter().all(|(axis, value)| {
                axes.iter().any(|(name, have)| name == axis && (have == value || *value == "*"))
            })
        };
        let cells: Vec<usize> = node.cells.iter().filter(matches).copied().collect();
        if cells.is_empty() {
            let example = node.cells.first().map(|cell| self.cells[*cell].name.to_string());
            return Err(TargetError::NoCell { target: target.to_owned(), example });
        }
        Ok(cells)
    }

    /// The given cells and everything they are made from.
    pub fn closure(&self, targets: &[usize]) -> BTreeSet<usize> {
        let mut wanted: BTreeSet<usize> = targets.iter().copied().collect();
        let mut pending: Vec<usize> = targets.to_vec();
        while let Some(cell) = pending.pop() {
            for upstream in self.cells[cell].upstream() {
                if wanted.insert(upstream) {
                    pending.push(upstream);
                }
            }
        }
        wanted
    }

    /// Device slots a cell takes: none where everything computes on the CPU.
    pub fn devices_of(&self, cell: &Cell) -> usize {
        let on_cpu = self.backend.name == contract::Backend::default().name;
        if on_cpu { 0 } else { cell.resources.devices }
    }

    /// The stages as a petgraph, edges from producer to consumer.
    pub fn stage_graph(&self) -> DiGraph<usize, ()> {
        let mut graph = DiGraph::new();
        let nodes: Vec<NodeIndex> = (0..self.stages.len()).map(|stage| graph.add_node(stage)).collect();
        for (stage, node) in self.stages.iter().enumerate() {
            let from: BTreeSet<usize> = node.needs.iter().map(|need| need.0).collect();
            for producer in from {
                graph.add_edge(nodes[producer], nodes[stage], ());
            }
        }
        graph
    }

    /// Expands every stage's matrix and joins the cells.
    fn expand(
        &mut self,
        recipe: &Recipe,
        drafts: &mut [Draft<'_>],
        order: &[usize],
        kinds: &Kinds,
        mistakes: &mut Vec<Diagnostic>,
    ) {
        for draft in drafts.iter() {
            self.stages.push(StageNode {
                name: draft.name.clone(),
                // An unknown kind has been said, so no graph comes of this; a stand-in keeps the indices right.
                kind: draft.kind.unwrap_or(kinds.table),
                axes: draft.axes.iter().map(|axis| axis.value.clone()).collect(),
                cells: Vec::new(),
                table: draft.table,
                executor: draft.executor.clone(),
                needs: draft
                    .needs
                    .iter()
                    .map(|need| (need.stage, need.output.name, need.port.name))
                    .collect(),
            });
        }
        for &stage in order {
            let Some(kind) = drafts[stage].kind else { continue };
            let before = mistakes.len();
            let schema = kind.schema();
            // Params that name no axis are the same in every cell: check them once.
            let mut last: Option<(Node, Option<CheckedParams>)> = None;
            // They say nothing of what comes after: it is checked all the same.
            let mut of_setting = Vec::new();
            for axes in matrix::combinations(recipe, &drafts[stage], mistakes) {
                let scope = Scope { recipe, axes: &axes };
                let Some(with) = interpolate(drafts[stage].with, &scope, mistakes) else { continue };
                if last.as_ref().is_none_or(|(same, _)| *same != with) {
                    let checked = check_params(kind, &with, &schema, recipe, &drafts[stage].what, mistakes);
                    last = Some((with, checked));
                }
                if let Some((with, Some((params, files)))) = &last {
                    let checked = (params.clone(), files.clone());
                    let (index, so_far) = (self.cells.len(), mistakes.len());
                    self.add_cell(drafts, stage, kind, &axes, checked, kinds, mistakes);
                    if mistakes.len() == so_far && setting::is_known(drafts, stage) {
                        self.check_setting(index, with, &drafts[stage].what, &mut of_setting);
                    }
                }
            }
            drafts[stage].spoiled |= mistakes.len() > before;
            mistakes.append(&mut of_setting);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a cell, each made by another step")]
    fn add_cell(
        &mut self,
        drafts: &[Draft<'_>],
        stage: usize,
        kind: &'static dyn Kind,
        axes: &[(&str, &AxisValue)],
        (params, files): CheckedParams,
        kinds: &Kinds,
        mistakes: &mut Vec<Diagnostic>,
    ) {
        let draft = &drafts[stage];
        let axes: Vec<(String, String)> =
            axes.iter().map(|(axis, value)| ((*axis).to_owned(), value.name.clone())).collect();
        let mut resources = kind.resources(&params);
        let mut pools = BTreeMap::new();
        if let Some(declared) = draft.resources {
            if let Some(cpu) = declared.cpu {
                resources.cpu = contract::CpuRange { least: cpu, most: Some(cpu) };
            }
            resources.memory = declared.memory.unwrap_or(resources.memory);
            resources.devices = declared.devices.unwrap_or(resources.devices);
            pools.clone_from(&declared.pools);
        }
        let seed = axes.iter().find(|(axis, _)| axis == "seed").map_or(Ok(0), |(_, value)| value.parse());
        if seed.is_err() && kind.seeded() {
            let span =
                draft.axes.iter().find(|axis| axis.value == "seed").map_or(draft.span, |axis| axis.span);
            let message =
                format!("{} draws from axis `seed`, whose values are not whole numbers", named(draft));
            mistakes.push(Diagnostic::at(span, message).help("write `seeds: [1, 2, 3]`"));
        }
        let mut cell = Cell {
            name: cell_name(&draft.name, &axes),
            stage,
            seed: seed.unwrap_or(0),
            axes,
            kind,
            files,
            inputs: BTreeMap::new(),
            resources,
            priority: draft.resources.map_or(0, |declared| declared.priority),
            pools,
            retries: draft.retries,
            perspectives: None,
            params,
        };
        for port in kind.inputs() {
            if !kind.reads(&cell.params, port.name) {
                continue;
            }
            let needs: Vec<&DraftNeed> =
                draft.needs.iter().filter(|need| need.port.name == port.name).collect();
            if needs.is_empty() {
                if !port.arity.may_be_empty() && !draft.unjoined.contains(&port.name) {
                    mistakes.push(ports::missing(draft, *port, &self.stages));
                }
                continue;
            }
            // Where several stages meet on a port, their names tell them apart.
            let several = needs.iter().any(|need| need.stage != needs[0].stage);
            let mut sources: Vec<Source> =
                needs.iter().flat_map(|need| self.matching(need, &cell.axes, several)).collect();
            if needs.iter().any(|need| drafts[need.stage].spoiled) {
                continue;
            }
            let made = |source: &&Source| {
                let from = &self.cells[source.cell];
                from.kind.makes(&from.params, source.port)
            };
            if let Some(source) = sources.iter().find(|source| !made(source)) {
                let from = &self.cells[source.cell];
                let message = format!("`{}` makes no `{}` as its params are", from.name, source.port);
                let help = format!("`retort kinds {}` says when it does", from.kind.name());
                mistakes.push(Diagnostic::at(needs[0].span, message).help(help));
                continue;
            }
            if !port.arity.takes_many() && sources.len() != 1 {
                mistakes.push(self.wrong_count(&cell, needs[0], sources.len()));
                continue;
            }
            if port.arity.takes_many() {
                sources.sort_by(|a, b| (&a.labels, a.cell).cmp(&(&b.labels, b.cell)));
            }
            if !sources.is_empty() {
                cell.inputs.insert(port.name, sources);
            }
        }
        if draft.table {
            (kinds.share_base)(&mut cell.params, &self.shared_axes(&cell.inputs));
        }
        let index = self.cells.len();
        self.by_name.insert(cell.name.clone(), index);
        self.stages[stage].cells.push(index);
        self.cells.push(cell);
    }

    /// The axes along which some of a table's results come from one model that was trained from a seed.
    fn shared_axes<'a>(&self, inputs: &'a BTreeMap<&'static str, Vec<Source>>) -> BTreeSet<&'a str> {
        let trained = |cell: &Cell| {
            let makes_model = |port: &Port| port.artifact == ArtifactType::Model;
            cell.kind.seeded()
                && cell.kind.computes_with(&cell.params)
                && cell.kind.outputs().iter().any(makes_model)
        };
        let mut values: BTreeMap<(usize, &str), &str> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for source in inputs.values().flatten() {
            let upstream = self.closure(&[source.cell]);
            for model in upstream.into_iter().filter(|cell| trained(&self.cells[*cell])) {
                for (axis, value) in &source.labels {
                    if values.entry((model, axis)).or_insert(value) != value {
                        shared.insert(axis.as_str());
                    }
                }
            }
        }
        shared
    }

    /// The producer's cells that agree with the consumer on every axis they share.
    fn matching(&self, need: &DraftNeed, axes: &[(String, String)], several: bool) -> Vec<Source> {
        let producer = &self.stages[need.stage];
        let shared: Vec<&(String, String)> =
            axes.iter().filter(|(axis, _)| producer.axes.contains(axis)).collect();
        let free = producer.axes.len() - shared.len();
        let source = |cell: usize| {
            let mut labels = BTreeMap::new();
            if need.port.arity.takes_many() {
                let own = |axis: &str| axes.iter().any(|(name, _)| name == axis);
                labels.extend(self.cells[cell].axes.iter().filter(|(axis, _)| !own(axis)).cloned());
                if several {
                    labels.insert("stage".to_owned(), producer.name.clone());
                }
            }
            Source { cell, port: need.output.name, labels }
        };
        if free == 0 {
            // Every axis is given, so the name is known: no search.
            let own: Vec<(String, String)> = producer
                .axes
                .iter()
                .filter_map(|axis| axes.iter().find(|(name, _)| name == axis).cloned())
                .collect();
            let cell = self.by_name.get(&cell_name(&producer.name, &own));
            return cell.map(|cell| source(*cell)).into_iter().collect();
        }
        let agrees = |cell: &&usize| shared.iter().all(|pair| self.cells[**cell].axes.contains(pair));
        producer.cells.iter().filter(agrees).map(|cell| source(*cell)).collect()
    }

    fn wrong_count(&self, cell: &Cell, need: &DraftNeed, found: usize) -> Diagnostic {
        let producer = &self.stages[need.stage];
        let missing: Vec<&String> =
            producer.axes.iter().filter(|axis| !cell.axes.iter().any(|own| own.0 == **axis)).collect();
        let stage = &self.stages[cell.stage].name;
        if found == 0 {
            let name = &cell.name;
            return Diagnostic::at(
                need.span,
                format!("`{name}` needs a cell of `{}` that is excluded", producer.name),
            )
            .help(format!("exclude the same combination from the matrix of `{stage}`"));
        }
        let axes: Vec<String> = missing.iter().map(|axis| format!("`{axis}`")).collect();
        Diagnostic::at(
            need.span,
            format!(
                "port `{}` of `{stage}` takes one artifact, and `{}` has {found} cells that fit",
                need.port.name, producer.name
            ),
        )
        .help(format!("add {} to the matrix of `{stage}`", axes.join(" and ")))
    }
}

fn cell_name(stage: &str, axes: &[(String, String)]) -> CellName {
    if axes.is_empty() {
        return CellName(stage.to_owned());
    }
    let pairs: Vec<String> = axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    CellName(format!("{stage}[{}]", pairs.join(",")))
}

/// A target on the command line that stands for no cell.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No such stage.
    #[error("no stage is called `{stage}`")]
    UnknownStage {
        /// As typed.
        stage: String,
        /// The nearest name.
        suggestion: Option<String>,
        /// Every name there is.
        known: Vec<String>,
    },
    /// What stands in brackets does not say which cells.
    #[error("`{target}` does not say which cells of `{stage}` are meant")]
    Filter {
        /// As typed.
        target: String,
        /// The stage.
        stage: String,
        /// Its axes.
        axes: Vec<String>,
    },
    /// The stage is there, but no cell fits.
    #[error("no cell matches `{target}`")]
    NoCell {
        /// As typed.
        target: String,
        /// A cell of that stage.
        example: Option<String>,
    },
}

impl TargetError {
    /// The remedy.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownStage { suggestion: Some(name), .. } => Some(format!("did you mean `{name}`?")),
            Self::UnknownStage { suggestion: None, known, .. } => {
                Some(format!("stages of this recipe: {}", known.join(", ")))
            }
            Self::Filter { stage, axes, .. } if axes.is_empty() => {
                Some(format!("`{stage}` is one cell, it has no axes"))
            }
            Self::Filter { stage, axes, .. } => {
                let pairs: Vec<String> = axes.iter().map(|axis| format!("{axis}=VALUE")).collect();
                Some(format!("write some of the axes: `{stage}[{}]`", pairs.join(",")))
            }
            Self::NoCell { example, .. } => example.as_ref().map(|name| format!("a cell of it is `{name}`")),
        }
    }
}

fn resolve_backend(
    recipe: &Recipe,
    kinds: &Kinds,
    flag: Option<&str>,
    mistakes: &mut Vec<Diagnostic>,
) -> contract::Backend {
    let mut backend = contract::Backend::default();
    let written = recipe.backend.as_ref();
    if let Some(name) = flag.or(written.map(|name| name.value.as_str())) {
        if !kinds.backends.contains(&name) {
            let message = format!("unknown backend `{name}`");
            let mistake = match written.filter(|_| flag.is_none()) {
                Some(written) => Diagnostic::at(written.span, message),
                None => Diagnostic::general(message),
            };
            mistakes.push(mistake.suggest(name, kinds.backends.iter().copied()));
        }
        name.clone_into(&mut backend.name);
    }
    if let Some(dtype) = &recipe.dtype {
        if !kinds.dtypes.contains(&dtype.value.as_str()) {
            let message = format!("no recipe computes in dtype `{}`", dtype.value);
            let help = format!("dtypes: {}; a kind may have one of its own", kinds.dtypes.join(", "));
            mistakes.push(Diagnostic::at(dtype.span, message).help(help));
        }
        backend.dtype.clone_from(&dtype.value);
    }
    backend
}

/// Looks up kinds and axes; needs are joined afterwards, when every stage is known.
fn drafts<'r>(recipe: &'r Recipe, kinds: &Kinds, mistakes: &mut Vec<Diagnostic>) -> Vec<Draft<'r>> {
    let mut drafts = Vec::new();
    for stage in &recipe.stages {
        let kind = kinds.all.iter().find(|kind| kind.name() == stage.uses.value).copied();
        if kind.is_none() {
            let names: Vec<&str> = kinds.all.iter().map(|kind| kind.name()).collect();
            let message = format!("unknown kind `{}`", stage.uses.value);
            mistakes.push(Diagnostic::at(stage.uses.span, message).suggest(&stage.uses.value, names));
        }
        for axis in &stage.axes {
            if !recipe.axes.iter().any(|known| known.name.value == axis.value) {
                mistakes.push(unknown_axis(recipe, axis, &format!("stage `{}`", stage.name.value)));
            }
        }
        drafts.push(Draft {
            name: stage.name.value.clone(),
            what: format!("`with` of stage `{}`", stage.name.value),
            span: stage.name.span,
            kind,
            with: &stage.with,
            axes: stage.axes.clone(),
            include: &stage.include,
            exclude: &stage.exclude,
            needs: Vec::new(),
            resources: Some(&stage.resources),
            retries: stage.retries,
            executor: stage.executor.clone(),
            table: false,
            spoiled: kind.is_none(),
            unjoined: Vec::new(),
        });
    }
    for table in &recipe.tables {
        drafts.push(Draft {
            name: format!("tables.{}", table.name.value),
            what: format!("table `{}`", table.name.value),
            span: table.name.span,
            kind: Some(kinds.table),
            with: &table.with,
            axes: Vec::new(),
            include: &[],
            exclude: &[],
            needs: Vec::new(),
            resources: None,
            retries: 0,
            executor: ExecutorDecl::Local,
            table: true,
            spoiled: false,
            unjoined: Vec::new(),
        });
    }
    drafts
}

fn unknown_axis(recipe: &Recipe, axis: &Spanned<String>, where_: &str) -> Diagnostic {
    let names: Vec<&str> = recipe.axes.iter().map(|axis| axis.name.value.as_str()).collect();
    let mistake = Diagnostic::at(axis.span, format!("{where_} names an unknown axis `{}`", axis.value));
    if names.is_empty() {
        return mistake.help("the recipe has no `matrix` and no `seeds`");
    }
    mistake.suggest(&axis.value, names)
}

fn named(draft: &Draft<'_>) -> String {
    match draft.name.strip_prefix("tables.") {
        Some(table) => format!("table `{table}`"),
        None => format!("stage `{}`", draft.name),
    }
}

type CheckedParams = (Value, Vec<(String, PathBuf)>);

fn check_params(
    kind: &dyn Kind,
    with: &Node,
    schema: &Value,
    recipe: &Recipe,
    what: &str,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<CheckedParams> {
    let checked = schema::check(with, schema, &recipe.sources, what, mistakes)?;
    let mut sound = true;
    for file in &checked.files {
        if !file.path.exists() {
            let message = format!("`{}` does not exist", file.path.display());
            mistakes.push(
                Diagnostic::at(file.span, message).help("paths are relative to the file they are written in"),
            );
            sound = false;
        }
    }
    let mut value = checked.value;
    for file in &checked.files {
        if let Some(place) = value.pointer_mut(&file.pointer) {
            *place = Value::from(file.path.to_string_lossy());
        }
    }
    match kind.resolve(&value) {
        Ok(params) if sound => {
            let files = checked.files.into_iter().map(|file| (file.pointer, file.path)).collect();
            Some((params, files))
        }
        Ok(_) => None,
        Err(problems) => {
            mistakes.extend(problems.into_iter().map(|problem| in_params(with, what, problem)));
            None
        }
    }
}

/// What a kind says of a param, where it stands.
fn in_params(with: &Node, what: &str, (pointer, problem): (String, String)) -> Diagnostic {
    let field = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    let place = if field.is_empty() { what.to_owned() } else { format!("`{field}` in {what}") };
    Diagnostic::at(schema::locate(with, &pointer), format!("{place}: {problem}"))
}
