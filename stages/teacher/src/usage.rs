//! What the teacher's completions took; `usage.json`.

use chat::{Completion, Endpoint, Usage};
use serde::{Deserialize, Serialize};

/// Tokens and cost of every completion in the artifact, in all and by perspective. Nothing for teachers that cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The model asked; nothing for one of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Everything together.
    pub total: Taken,
    /// Cost, where the recipe names prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What the cost is counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Each perspective, in order.
    pub perspectives: Vec<PerspectiveUsage>,
}

/// What one perspective took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerspectiveUsage {
    /// The perspective.
    pub perspective: String,
    /// What it took.
    pub taken: Taken,
}

/// Completions and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Completions, every attempt counted.
    pub completions: u64,
    /// Those that stopped at the length limit.
    pub truncated: u64,
    /// Tokens.
    pub usage: Usage,
}

impl Taken {
    fn add(&mut self, completion: &Completion) {
        self.completions += 1;
        self.truncated += u64::from(completion.truncated);
        self.usage += completion.usage;
    }
}

impl UsageReport {
    pub(crate) fn of<'a>(model: Option<String>, perspectives: impl Iterator<Item = &'a str>) -> Self {
        let empty = |name: &str| PerspectiveUsage { perspective: name.to_owned(), taken: Taken::default() };
        let perspectives = perspectives.map(empty).collect();
        Self { model, perspectives, ..Self::default() }
    }

    pub(crate) fn add(&mut self, perspective: &str, completion: &Completion) {
        self.total.add(completion);
        let of = self.perspectives.iter_mut().find(|of| of.perspective == perspective);
        of.expect("the report was made with every perspective").taken.add(completion);
    }

    pub(crate) fn finish(&mut self, endpoint: &Endpoint) {
        self.cost = endpoint.cost(self.total.usage);
        self.currency = self.cost.map(|_| endpoint.currency.clone());
    }
}
