//! EDIT: learning from mistakes, token by token (Dai et al., ACL 2025).
//!
//! In the first part of the training every right rationale counts, as in `uniform`. In the second part dual pairs do: a right
//! rationale and a wrong one of the same question. Only the tokens in which they differ count, the right ones to be
//! raised, the wrong ones, weakly, to be lowered. A question that has no wrong rationale goes on as in the first part (ours).

use std::collections::{HashMap, HashSet};

use burn::tensor::{Tensor, TensorData};
use contract::{
    StageError,
    records::{Question, QuestionRationales},
};
use lm::{
    batch::{Sequence, encode_example},
    paths::{Paths, QuestionPaths},
    prompt::Prompter,
    tokenizer::Tokenizer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, Rationales, passes, presence, weighted_loss};
use crate::{
    StudentError,
    forward::{Needs, Tokens},
    log::StepLog,
    similarity::{Changed, changed, jaccard, three_grams},
};

/// How right and wrong tokens are weighted, and from when on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct EditParams {
    /// The share of all steps that belongs to the first part. Default: 0.5.
    #[serde(default = "default_first_part")]
    pub first_part: f64,
    /// Weight of the tokens only the right rationale has. Default: 1.
    #[serde(default = "default_right")]
    pub right: f64,
    /// Weight of the tokens only the wrong rationale has. Default: -0.025.
    #[serde(default = "default_wrong")]
    pub wrong: f64,
    /// Wrong tokens whose loss is above this, in nats, are left alone: they are unlikely enough. Default: 20.
    #[serde(default = "default_unlikely")]
    pub unlikely: f64,
}

fn default_first_part() -> f64 {
    0.5
}

fn default_right() -> f64 {
    1.0
}

fn default_wrong() -> f64 {
    -0.025
}

fn default_unlikely() -> f64 {
    20.0
}

impl EditParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &'static str, problem: &str| {
            if !holds {
                problems.push((field, problem.to_owned()));
            }
        };
        require((0.0..=1.0).contains(&self.first_part), "first_part", "is a fraction, from 0 to 1");
        require(self.right >= 0.0, "right", "must not be negative");
        require(self.wrong <= 0.0, "wrong", "must not be above 0");
        require(self.unlikely > 0.0, "unlikely", "must be above 0");
        problems
    }
}

/// The right paths of every question, then as many places for its wrong ones.
pub(super) fn paths(
    tokenizer: &Tokenizer,
    rationales: &Rationales,
    max_tokens: usize,
) -> Result<Paths, StageError> {
    let Rationales { perspectives, right, wrong } = rationales;
    let mut paths = Paths::encode(tokenizer, perspectives.clone(), right, max_tokens)?;
    let prompter = Prompter::new(tokenizer)?;
    let wrong: HashMap<&str, &QuestionRationales> =
        wrong.iter().map(|record| (record.question.id.as_str(), record)).collect();
    for QuestionPaths { id, paths: of_question } in &mut paths.questions {
        let mut mistakes: Vec<Option<Sequence>> = vec![None; perspectives.len()];
        if let Some(QuestionRationales { question, rationales }) = wrong.get(id.as_str()) {
            let prompt = prompter.question(question)?;
            for rationale in rationales {
                let place = perspectives.iter().position(|name| *name == rationale.perspective);
                let (Some(place), Some(answer)) = (place, tasks::score(question, &rationale.text).extracted)
                else {
                    continue;
                };
                // Cut where its right twin is cut, so that equal texts have equal tokens.
                let suffix = tasks::answer_suffix(&Question { answer, ..question.clone() });
                let suffix = if rationale.text.ends_with(&suffix) { suffix.as_str() } else { "" };
                let sequence = encode_example(tokenizer, &prompt, &rationale.text, suffix)?;
                mistakes[place] = (sequence.tokens.len() <= max_tokens).then_some(sequence);
            }
        }
        of_question.extend(mistakes);
    }
    let wrong = perspectives.iter().map(|name| format!("wrong/{name}")).collect::<Vec<_>>();
    paths.perspectives.extend(wrong);
    Ok(paths)
}

/// A wrong path with the right one most like it.
struct Pair {
    right: usize,
    wrong: usize,
    changed: Changed,
}

/// Both parts.
pub(super) struct Edit {
    params: EditParams,
    present: Vec<Vec<bool>>,
    pairs: Vec<Vec<Pair>>,
    second_from: usize,
    planned: Vec<usize>,
    in_second: bool,
}

impl Edit {
    pub(super) fn new(params: &EditParams, paths: &Paths) -> Result<Self, StudentError> {
        let pairs: Vec<Vec<Pair>> = paths.questions.iter().map(pairs).collect();
        if pairs.iter().all(Vec::is_empty) {
            return Err(StudentError::NoMistakes);
        }
        Ok(Self {
            params: params.clone(),
            present: presence(paths),
            pairs,
            second_from: 0,
            planned: Vec::new(),
            in_second: false,
        })
    }

    /// The right paths of a question.
    fn right(&self, question: usize) -> Vec<usize> {
        let count = self.present[question].len() / 2;
        (0..count).filter(|path| self.present[question][*path]).collect()
    }

    /// Equal weights of the right paths.
    fn uniform(&self, question: usize) -> Vec<f64> {
        let right = self.right(question);
        let weight = |path| if right.contains(&path) { 1.0 / right.len() as f64 } else { 0.0 };
        (0..self.present[question].len()).map(weight).collect()
    }

    /// The weight of each target token, over a question's pairs.
    fn token_weights(&self, forward: &Forward, tokens: &Tokens) -> Vec<f32> {
        let losses: Vec<f64> = tokens.losses.to_data().iter::<f64>().collect();
        let mut weights = vec![0f32; losses.len()];
        for ((slot, path), span) in forward.rows.iter().zip(&tokens.spans) {
            let question = self.planned[*slot];
            let (pairs, length) = (&self.pairs[question], span.len() as f64);
            let of = &mut weights[span.clone()];
            if pairs.is_empty() {
                of.fill((self.uniform(question)[*path] / length) as f32);
                continue;
            }
            let share = 1.0 / (pairs.len() as f64 * length);
            for pair in pairs {
                let (changed, weight) = if pair.right == *path {
                    (&pair.changed.left, self.params.right)
                } else if pair.wrong == *path {
                    (&pair.changed.right, self.params.wrong)
                } else {
                    continue;
                };
                for ((of, changed), loss) in of.iter_mut().zip(changed).zip(&losses[span.clone()]) {
                    let counts = *changed && (pair.right == *path || *loss <= self.params.unlikely);
                    *of += if counts { (weight * share) as f32 } else { 0.0 };
                }
            }
        }
        weights
    }
}

impl Objective for Edit {
    fn learns_from(&self, question: usize) -> bool {
        !self.right(question).is_empty()
    }

    fn starts(&mut self, steps: usize) {
        self.second_from = (steps as f64 * self.params.first_part).round() as usize;
    }

    fn needs(&self, step: usize) -> Needs {
        Needs { tokens: step >= self.second_from, ..Needs::default() }
    }

    fn plan(&mut self, questions: &[usize], step: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        self.planned = questions.to_vec();
        self.in_second = step >= self.second_from;
        let weights = |question: &usize| {
            let pairs = &self.pairs[*question];
            if !self.in_second || pairs.is_empty() {
                return self.uniform(*question);
            }
            let used = |path| pairs.iter().any(|pair| pair.right == path || pair.wrong == path);
            (0..self.present[*question].len()).map(|path| f64::from(u8::from(used(path)))).collect()
        };
        Ok(passes(&questions.iter().map(weights).collect::<Vec<_>>()))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        let Some(tokens) = forward.tokens.as_ref().filter(|_| self.in_second) else {
            let weights: Vec<Vec<f64>> =
                self.planned.iter().map(|question| self.uniform(*question)).collect();
            return weighted_loss(forward, &weights, 0.0, log);
        };
        let weights = self.token_weights(forward, tokens);
        let counted = weights.iter().filter(|weight| **weight != 0.0).count();
        let shape = [weights.len()];
        let weights = Tensor::from_data(TensorData::new(weights, shape), &tokens.losses.device());
        let loss = (tokens.losses.clone() * weights).sum();
        log.mean_over("loss", loss.to_data().iter::<f64>().sum(), self.planned.len());
        log.total("edited_tokens", counted as f64);
        loss
    }
}

/// Every wrong path of a question with the right one whose tokens are most like its own.
fn pairs(question: &QuestionPaths) -> Vec<Pair> {
    let (right, wrong) = question.paths.split_at(question.paths.len() / 2);
    let there = |paths: &[Option<Sequence>]| -> Vec<(usize, Vec<u32>, HashSet<[u32; 3]>)> {
        let path = |(at, path): (usize, &Option<Sequence>)| {
            let tokens = path.as_ref()?.continuation().to_vec();
            let grams = three_grams(&tokens);
            Some((at, tokens, grams))
        };
        paths.iter().enumerate().filter_map(path).collect()
    };
    let right_paths = there(right);
    let pair = |(wrong_at, tokens, grams): (usize, Vec<u32>, HashSet<[u32; 3]>)| {
        let alike = right_paths.iter().map(|(at, twin, other)| (*at, twin, jaccard(other, &grams)));
        // Backwards, so that the first of those equally alike is the last greatest.
        let (twin_at, twin, _) = alike.rev().max_by(|a, b| f64::total_cmp(&a.2, &b.2))?;
        Some(Pair { right: twin_at, wrong: right.len() + wrong_at, changed: changed(twin, &tokens) })
    };
    there(wrong).into_iter().filter_map(pair).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn sequence(continuation: &[u32]) -> Option<Sequence> {
        let mut tokens = vec![100];
        tokens.extend(continuation);
        Some(Sequence { tokens, target_start: 1, answer_span: 0..0 })
    }

    /// One question with two right paths and a wrong one, one with right paths only.
    fn edit() -> Edit {
        let paths = Paths {
            perspectives: ["a", "b", "wrong/a", "wrong/b"].map(String::from).into(),
            questions: vec![
                QuestionPaths {
                    id: "x".into(),
                    paths: vec![
                        sequence(&[9, 9, 9, 9]),
                        sequence(&[1, 2, 3, 4, 5]),
                        sequence(&[1, 2, 3, 7]),
                        None,
                    ],
                },
                QuestionPaths { id: "y".into(), paths: vec![sequence(&[1, 2]), None, None, None] },
            ],
            too_long: 0,
        };
        let params: EditParams = serde_json::from_str("{}").unwrap();
        let mut edit = Edit::new(&params, &paths).unwrap();
        edit.starts(10);
        edit
    }

    #[test]
    fn the_second_part_trains_on_pairs() {
        let mut edit = edit();
        use Pass::{Learn, Skip};
        let first = edit.plan(&[0, 1], 4).unwrap();
        assert_eq!(first, [[Learn, Learn, Skip, Skip], [Learn, Skip, Skip, Skip]]);
        assert!(!edit.needs(4).tokens && edit.needs(5).tokens);
        let second = edit.plan(&[0, 1], 5).unwrap();
        assert_eq!(second, [[Skip, Learn, Learn, Skip], [Learn, Skip, Skip, Skip]]);
    }

    #[test]
    fn only_tokens_that_differ_count() {
        let mut edit = edit();
        edit.plan(&[0, 1], 5).unwrap();
        let device = lm::device::open(&contract::Backend::default()).unwrap();
        // Rows: right b, wrong a, and the path of the other question.
        let losses = [1f32, 1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 4.0, 0.5, 1.5];
        let losses = Tensor::<1>::from_data(losses.as_slice(), &device);
        let tokens = |losses| Some(Tokens { losses, spans: vec![0..5, 5..9, 9..11] });
        let mut forward = Forward {
            questions_in_step: 2,
            values: vec![vec![None; 4]; 2],
            rows: vec![(0, 1), (0, 2), (1, 0)],
            losses: Tensor::zeros([3], &device),
            answers: None,
            tokens: tokens(losses.clone()),
        };
        let loss = |edit: &mut Edit, forward: &Forward| -> f64 {
            edit.loss(forward, &mut StepLog::default()).to_data().iter::<f64>().sum()
        };
        // (2 + 3) / 5 of the right one, -0.025 * 4 / 4 of the wrong one, and the other question's mean.
        let expected = 5.0 / 5.0 - 0.025 * 4.0 / 4.0 + 2.0 / 2.0;
        assert!((loss(&mut edit, &forward) - expected).abs() < 1e-6);
        // A wrong token that is unlikely already is left alone.
        let unlikely =
            losses.clone() + Tensor::<1>::from_data([0f32, 0., 0., 0., 0., 0., 0., 0., 17., 0., 0.], &device);
        forward.tokens = tokens(unlikely);
        assert!((loss(&mut edit, &forward) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn without_mistakes_it_says_so() {
        let paths = Paths {
            perspectives: ["a", "wrong/a"].map(String::from).into(),
            questions: vec![QuestionPaths { id: "x".into(), paths: vec![sequence(&[1]), None] }],
            too_long: 0,
        };
        let error = Edit::new(&serde_json::from_str("{}").unwrap(), &paths).err().unwrap();
        assert_eq!(error, StudentError::NoMistakes);
    }
}
