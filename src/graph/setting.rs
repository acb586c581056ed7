//! What a cell's params and the cells before it say together.

use contract::{Joined, Setting};

use super::{Draft, Graph, in_params};
use crate::recipe::{Diagnostic, Node};

/// Whether everything a stage needs has been joined without a mistake: otherwise what is not there may only be misspelled.
pub(super) fn is_known(drafts: &[Draft<'_>], stage: usize) -> bool {
    let draft = &drafts[stage];
    draft.unjoined.is_empty() && !draft.needs.iter().any(|need| drafts[need.stage].spoiled)
}

impl Graph {
    /// Checks a cell's params against what it reads and computes on, and keeps what is known of its outputs.
    pub(super) fn check_setting(
        &mut self,
        index: usize,
        with: &Node,
        what: &str,
        mistakes: &mut Vec<Diagnostic>,
    ) {
        let cell = &self.cells[index];
        let joined = cell.inputs.iter().map(|(port, sources)| {
            let joined = sources.iter().map(|source| {
                let from = &self.cells[source.cell];
                let (stage, perspectives) = (&self.stages[from.stage].name, from.perspectives.as_deref());
                Joined { stage, labels: &source.labels, perspectives }
            });
            (*port, joined.collect())
        });
        let setting = Setting::new(&self.backend, joined.collect());
        let problems = cell.kind.check_setting(&cell.params, &setting);
        let perspectives = cell.kind.perspectives(&cell.params, &setting);
        mistakes.extend(problems.into_iter().map(|problem| in_params(with, what, problem)));
        self.cells[index].perspectives = perspectives;
    }
}
