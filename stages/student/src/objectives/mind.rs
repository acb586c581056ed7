//! MIND: rationales weighted by a teaching assistant that is trained beside the student (arXiv 2601.03717).
//!
//! The assistant scores the perspectives of each question; the student learns from those near the best, weighted by
//! score, and is asked to answer alike after each of them. The assistant learns to rank perspectives as the student's
//! averaged losses do. Neither gets a gradient through the other: weights are numbers to the student, losses are
//! numbers to the assistant.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};
use contract::{Context, StageError};
use lm::{
    assistant::{Assistant, AssistantNetwork, Features, MetaKl, meta_loss, scores},
    paths::Paths,
    train::{Checkpoint, Schedule, TrainOptions, Trainer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, presence, weighted_loss};
use crate::{StudentError, forward::Needs, inertia::Inertia, log::StepLog};

const TRAINER: &str = "assistant";

/// The calibrated objective.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct MindParams {
    /// A path is learned from if its score is at least this fraction of the best; 0 is the ablation `no-selection`.
    /// Default: 0.8.
    #[serde(default = "default_beta")]
    pub beta: f64,
    /// Temperature of the weights alpha over the selected paths. Default: 0.1.
    #[serde(default = "default_tau_student")]
    pub tau_student: f64,
    /// Weight of the consistency term; 0 is the ablation `no-consistency`. Default: 0.5.
    #[serde(default = "default_lambda")]
    pub lambda: f64,
    /// Temperature of both distributions in the meta loss. Default: 1.
    #[serde(default = "default_tau")]
    pub tau: f64,
    /// Inertia of the averaged losses the assistant learns from; 0 takes the current ones. Default: 0.9.
    #[serde(default = "default_rho")]
    pub rho: f64,
    /// Direction of the divergence in the meta loss. Default: `predicted_target`.
    #[serde(default)]
    pub meta_kl: MetaKl,
    /// Learning rate of the assistant, constant. Default: 1e-5.
    #[serde(default = "default_assistant_learning_rate")]
    pub assistant_learning_rate: f64,
    /// Optimizer steps of the student to one of the assistant. Default: 4.
    #[serde(default = "default_assistant_accumulation")]
    pub assistant_accumulation: usize,
    /// Steps from one measurement of the paths not learned from to the next. Default: 1.
    #[serde(default = "default_refresh")]
    pub refresh: usize,
}

fn default_beta() -> f64 {
    0.8
}

fn default_tau_student() -> f64 {
    0.1
}

fn default_lambda() -> f64 {
    0.5
}

fn default_tau() -> f64 {
    1.0
}

fn default_rho() -> f64 {
    0.9
}

fn default_assistant_learning_rate() -> f64 {
    1e-5
}

fn default_assistant_accumulation() -> usize {
    4
}

fn default_refresh() -> usize {
    1
}

impl MindParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &'static str, problem: &str| {
            if !holds {
                problems.push((field, problem.to_owned()));
            }
        };
        require((0.0..=1.0).contains(&self.beta), "beta", "is a fraction, from 0 to 1");
        require(self.tau_student > 0.0, "tau_student", "must be above 0");
        require(self.lambda >= 0.0, "lambda", "must not be negative");
        require(self.tau > 0.0, "tau", "must be above 0");
        require((0.0..1.0).contains(&self.rho), "rho", "must be from 0 to below 1");
        require(self.assistant_learning_rate > 0.0, "assistant_learning_rate", "must be above 0");
        require(self.assistant_accumulation > 0, "assistant_accumulation", "must be at least 1");
        require(self.refresh > 0, "refresh", "must be at least 1");
        problems
    }
}

/// The questions of a training in three equal parts, by the base student's mean loss on their rationales; so named that they sort.
const DIFFICULTIES: [&str; 3] = ["1 easy", "2 mid", "3 hard"];

/// The objective with its assistant.
pub(super) struct Mind {
    params: MindParams,
    perspectives: Vec<String>,
    present: Vec<Vec<bool>>,
    features: Features,
    /// The row of each question in the features.
    rows: Vec<usize>,
    /// Of each question, one of [`DIFFICULTIES`].
    difficulty: Vec<&'static str>,
    assistant: Trainer<AssistantNetwork>,
    inertia: Inertia,
    /// Steps of the student since the last one of the assistant.
    waiting: usize,
    device: Device,
    planned: Option<Planned>,
}

/// What the assistant said of the questions planned last.
struct Planned {
    questions: Vec<usize>,
    /// Differentiable; `[questions, paths]`.
    scores: Tensor<2>,
    mask: Tensor<2>,
    alphas: Vec<Vec<f64>>,
    /// Scores by question and path.
    values: Vec<Vec<f64>>,
    /// The score matrix, flat.
    matrix: Vec<f64>,
}

impl Mind {
    pub(super) fn open(
        params: &MindParams,
        paths: &Paths,
        device: &Device,
        context: &Context,
    ) -> Result<Self, StageError> {
        let input = context.optional("assistant").ok_or(StudentError::NoAssistant)?;
        Ok(Self::new(params, paths, Assistant::load(&input.path, device)?, device)?)
    }

    fn new(
        params: &MindParams,
        paths: &Paths,
        assistant: Assistant,
        device: &Device,
    ) -> Result<Self, StudentError> {
        let Assistant { config, network, features } = assistant;
        if config.perspectives != paths.perspectives {
            let (known, found) = (config.perspectives, paths.perspectives.clone());
            return Err(StudentError::OtherPerspectives { known, found });
        }
        let known: HashMap<&str, usize> =
            features.questions.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let rows = paths.questions.iter().map(|question| {
            let row = known.get(question.id.as_str()).copied();
            row.ok_or_else(|| StudentError::NoFeatures { question: question.id.clone() })
        });
        let rows = rows.collect::<Result<Vec<usize>, _>>()?;
        let count = features.paths;
        let mut present = presence(paths);
        for (row, present) in rows.iter().zip(&mut present) {
            for (path, present) in present.iter_mut().enumerate() {
                *present &= features.mask[row * count + path] > 0.0;
            }
        }
        let difficulty = difficulties(&rows.iter().map(|row| features.loss(*row)).collect::<Vec<_>>());
        let first = rows.iter().flat_map(|row| &features.losses[row * count..(row + 1) * count]);
        let inertia = Inertia::new(params.rho, count, first.map(|loss| f64::from(*loss)));
        let options = TrainOptions::new(params.assistant_learning_rate, Schedule::Constant);
        Ok(Self {
            params: params.clone(),
            perspectives: config.perspectives,
            present,
            features,
            rows,
            difficulty,
            assistant: Trainer::new(network, options),
            inertia,
            waiting: 0,
            device: device.clone(),
            planned: None,
        })
    }

    /// The meta loss summed over questions, from averages of what was measured so far.
    fn meta_loss(&self, planned: &Planned) -> Tensor<1> {
        let count = self.features.paths;
        let losses = planned
            .questions
            .iter()
            .flat_map(|question| (0..count).map(|path| self.inertia.average(*question, path) as f32));
        let shape = [planned.questions.len(), count];
        let losses = Tensor::from_data(TensorData::new(losses.collect(), shape), &self.device);
        let (scores, mask) = (planned.scores.clone(), planned.mask.clone());
        meta_loss(scores, losses, mask, self.params.tau, self.params.meta_kl)
    }

    fn log(&self, planned: &Planned, log: &mut StepLog) {
        let count = self.features.paths;
        for (slot, question) in planned.questions.iter().enumerate() {
            let (alphas, difficulty) = (&planned.alphas[slot], self.difficulty[*question]);
            let selected = alphas.iter().filter(|alpha| **alpha > 0.0).count() as f64;
            log.mean("i_dyn", selected);
            log.mean(format!("i_dyn_by_difficulty/{difficulty}"), selected);
            log.mean("alpha_entropy", entropy(alphas));
            log.mean(format!("alpha_entropy_by_difficulty/{difficulty}"), entropy(alphas));
            let present = |path: &usize| self.present[*question][*path];
            for path in (0..count).filter(present) {
                let perspective = &self.perspectives[path];
                log.mean(format!("s/{perspective}"), planned.values[slot][path]);
                log.mean(format!("alpha/{perspective}"), alphas[path]);
                log.mean(format!("alpha_by_difficulty/{perspective}/{difficulty}"), alphas[path]);
                let average = self.inertia.average(*question, path);
                log.mean(format!("l_real_average/{perspective}"), average);
                for (head, other) in self.perspectives.iter().enumerate() {
                    let value = planned.matrix[(slot * count + path) * count + head];
                    log.mean(format!("m/{perspective}/{other}"), value);
                }
            }
        }
    }
}

impl Objective for Mind {
    fn needs(&self, _: usize) -> Needs {
        Needs { answers: self.params.lambda > 0.0, ..Needs::default() }
    }

    fn learns_from(&self, question: usize) -> bool {
        self.present[question].contains(&true)
    }

    fn plan(&mut self, questions: &[usize], step: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        let rows: Vec<usize> = questions.iter().map(|question| self.rows[*question]).collect();
        let present: Vec<&[bool]> = questions.iter().map(|q| self.present[*q].as_slice()).collect();
        let count = self.features.paths;
        let (values, _) = self.features.rows(&rows, &self.device);
        let mask: Vec<f32> =
            present.iter().flat_map(|row| row.iter().map(|present| f32::from(u8::from(*present)))).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [rows.len(), count]), &self.device);
        let matrix = self.assistant.model.forward(values, mask.clone());
        let scores = scores(matrix.clone());
        let flat: Vec<f64> = scores.to_data().iter::<f64>().collect();
        let values: Vec<Vec<f64>> = flat.chunks_exact(count).map(<[f64]>::to_vec).collect();
        let alphas: Vec<Vec<f64>> = values
            .iter()
            .zip(&present)
            .map(|(scores, present)| alphas(scores, present, self.params.beta, self.params.tau_student))
            .collect();
        let observe = step.is_multiple_of(self.params.refresh);
        let pass = |(alpha, present): (&f64, &bool)| match (*alpha > 0.0, *present && observe) {
            (true, _) => Pass::Learn,
            (false, true) => Pass::Observe,
            (false, false) => Pass::Skip,
        };
        let passes = alphas
            .iter()
            .zip(&present)
            .map(|(alphas, present)| alphas.iter().zip(*present).map(pass).collect());
        let passes = passes.collect();
        let matrix = matrix.to_data().iter::<f64>().collect();
        self.planned = Some(Planned { questions: questions.to_vec(), scores, mask, alphas, values, matrix });
        Ok(passes)
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        let planned = self.planned.take().expect("questions are planned before their loss is asked for");
        for (question, losses) in planned.questions.iter().zip(&forward.values) {
            for (path, loss) in losses.iter().enumerate() {
                if let Some(loss) = loss {
                    self.inertia.observe(*question, path, *loss);
                }
            }
        }
        let l_meta = self.meta_loss(&planned);
        log.mean_over("l_meta", l_meta.to_data().iter::<f64>().sum(), planned.questions.len());
        let parts = forward.questions_in_step * self.params.assistant_accumulation;
        self.assistant.accumulate(l_meta.div_scalar(parts as f64));
        self.log(&planned, log);
        weighted_loss(forward, &planned.alphas, self.params.lambda, log)
    }

    fn stepped(&mut self) -> Result<(), StageError> {
        self.waiting += 1;
        if self.waiting == self.params.assistant_accumulation {
            self.assistant.step()?;
            self.waiting = 0;
        }
        Ok(())
    }

    fn at_rest(&self) -> bool {
        self.waiting == 0
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(self.inertia.state()).expect("plain data serializes")
    }

    fn add_to(&self, checkpoint: &mut Checkpoint) {
        checkpoint.add(TRAINER, &self.assistant);
    }

    fn restore(&mut self, checkpoint: &Checkpoint, state: serde_json::Value) -> Result<(), StageError> {
        checkpoint.restore(TRAINER, &mut self.assistant)?;
        self.inertia.restore(serde_json::from_value(state).map_err(StageError::failed)?);
        Ok(())
    }
}

/// The weights of a question's paths: softmax(s / tau) over I_dyn = { k : s_k >= beta max s }, 0 elsewhere.
///
/// Scores are positive, so I_dyn always holds the best path there is.
pub(super) fn alphas(scores: &[f64], present: &[bool], beta: f64, tau: f64) -> Vec<f64> {
    let of_present = scores.iter().zip(present).filter(|(_, present)| **present).map(|(score, _)| *score);
    let best = of_present.fold(f64::NEG_INFINITY, f64::max);
    let weight = |(score, present): (&f64, &bool)| {
        // Shifted by the best, so that the exponential cannot overflow.
        if *present && *score >= beta * best { ((score - best) / tau).exp() } else { 0.0 }
    };
    let weights: Vec<f64> = scores.iter().zip(present).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The difficulty of each question by its loss; of equal ones the earlier is the easier.
fn difficulties(losses: &[f64]) -> Vec<&'static str> {
    let mut order: Vec<usize> = (0..losses.len()).collect();
    order.sort_by(|a, b| losses[*a].total_cmp(&losses[*b]));
    let mut difficulties = vec![DIFFICULTIES[0]; losses.len()];
    for (place, question) in order.into_iter().enumerate() {
        difficulties[question] = DIFFICULTIES[place * DIFFICULTIES.len() / losses.len()];
    }
    difficulties
}

/// In nats.
fn entropy(alphas: &[f64]) -> f64 {
    -alphas.iter().filter(|alpha| **alpha > 0.0).map(|alpha| alpha * alpha.ln()).sum::<f64>()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use burn::optim::GradientsParams;
    use lm::assistant::AssistantConfig;
    use lm::paths::QuestionPaths;
    use rand::SeedableRng;

    use super::*;
    use crate::forward::Answers;

    #[test]
    fn questions_are_split_in_thirds_by_loss() {
        let [easy, middle, hard] = DIFFICULTIES;
        assert_eq!(difficulties(&[3.0, 1.0, 2.0, 9.0, 0.5, 2.0]), [hard, easy, middle, hard, easy, middle]);
        assert_eq!(difficulties(&[1.0, 2.0]), [easy, middle]);
        assert!(difficulties(&[]).is_empty());
    }
    use crate::objectives::{std_cot::StdCot, uniform::Uniform};

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-5, "{left} is not {right}");
    }

    #[test]
    fn weights_worked_out_by_hand() {
        // 0.8 * 0.9 = 0.72 selects two of three; (0.8 - 0.9) / 0.1 = -1.
        let weights = alphas(&[0.9, 0.8, 0.5], &[true; 3], 0.8, 0.1);
        let first = 1.0 / (1.0 + (-1.0_f64).exp());
        weights.iter().zip([first, 1.0 - first, 0.0]).for_each(|(found, expected)| close(*found, expected));
        // The best score is missing, the other two are equal.
        assert_eq!(alphas(&[0.3, 0.99, 0.3], &[true, false, true], 0.8, 0.1), [0.5, 0.0, 0.5]);
        // A selection of everything, at a temperature that makes everything equal.
        let equal = alphas(&[0.9, 0.1, 0.5], &[true; 3], 0.0, 1e12);
        equal.iter().for_each(|alpha| close(*alpha, 1.0 / 3.0));
    }

    #[test]
    fn some_path_is_always_selected_and_weights_sum_to_one() {
        // A spread of scores, saturated and equal ones among them.
        let score = |seed: usize| [0.0, 1.0, 0.5, 1e-30, 0.25][seed % 5] * (seed % 7) as f64 / 6.0;
        for seed in 0..500 {
            let scores: Vec<f64> = (0..8).map(|path| score(seed * 13 + path * (seed % 3 + 1))).collect();
            let mut present: Vec<bool> = (0..8).map(|path| (seed >> (path % 4)) % 3 == 0).collect();
            present[seed % 8] = true;
            for (beta, tau) in [(0.8, 0.1), (1.0, 1e-3), (0.0, 10.0)] {
                let weights = alphas(&scores, &present, beta, tau);
                close(weights.iter().sum(), 1.0);
                assert!(weights.iter().zip(&present).all(|(weight, present)| *present || *weight == 0.0));
                let best =
                    (0..8).filter(|path| present[*path]).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
                assert!(weights[best.unwrap()] > 0.0);
            }
        }
    }

    /// Two questions of three paths, the second without its middle one, and a random assistant.
    fn mind(params: serde_json::Value) -> (Mind, Paths) {
        let perspectives = ["a", "b", "c"].map(String::from).to_vec();
        let sequence = || lm::batch::Sequence { tokens: vec![1, 2, 3], target_start: 1, answer_span: 2..3 };
        let question = |id: &str, present: [bool; 3]| QuestionPaths {
            id: id.into(),
            paths: present.iter().map(|present| present.then(sequence)).collect(),
        };
        let questions = vec![question("x", [true; 3]), question("y", [true, false, true])];
        let paths = Paths { perspectives: perspectives.clone(), questions, too_long: 0 };
        let config = AssistantConfig {
            perspectives,
            feature_size: 2,
            hidden_size: 4,
            num_attention_heads: 2,
            head_hidden_size: 4,
            attention: true,
        };
        let device = lm::device::open(&contract::Backend::default()).unwrap();
        // The rows stand in another order than the questions.
        let features = Features {
            questions: vec!["y".into(), "x".into()],
            paths: 3,
            size: 2,
            values: (0..12).map(|i| (i % 5) as f32 - 2.0).collect(),
            mask: vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0],
            losses: vec![4.0, 0.0, 2.0, 1.0, 2.0, 9.0],
        };
        let mut rng = rand::rngs::SmallRng::seed_from_u64(5);
        let network = AssistantNetwork::new(&config, &mut rng, &device);
        let params: MindParams = serde_json::from_value(params).unwrap();
        let mind = Mind::new(&params, &paths, Assistant { config, network, features }, &device).unwrap();
        (mind, paths)
    }

    /// Losses 1, 2, 9 and 4, -, 2; answers of one position over two tokens.
    fn forward(passes: &[Vec<Pass>]) -> Forward {
        let losses = [[1.0, 2.0, 9.0], [4.0, f64::NAN, 2.0]];
        let answers = [[0.5, 0.25, 0.5], [1.0, f32::NAN, 0.0]];
        let device = lm::device::open(&contract::Backend::default()).unwrap();
        let (mut rows, mut values) = (Vec::new(), vec![vec![None; 3]; passes.len()]);
        for (question, passes) in passes.iter().enumerate() {
            for (path, pass) in passes.iter().enumerate() {
                if *pass != Pass::Skip {
                    values[question][path] = Some(losses[question][path]);
                }
                if *pass == Pass::Learn {
                    rows.push((question, path));
                }
            }
        }
        let numbers: Vec<f32> = rows.iter().map(|(q, k)| losses[*q][*k] as f32).collect();
        let probs: Vec<f32> = rows
            .iter()
            .map(|(q, k)| answers[*q][*k])
            .flat_map(|p| [p.max(1e-38), (1.0 - p).max(1e-38)])
            .collect();
        let leaf = |data: TensorData| Tensor::<1>::from_data(data, &device).autodiff().require_grad();
        let losses = leaf(TensorData::new(numbers, [rows.len()]));
        let log_probs = leaf(TensorData::new(probs, [rows.len() * 2])).reshape([rows.len(), 2]).log();
        let spans = (0..rows.len()).map(|row| row..row + 1).collect();
        let answers = Some(Answers { log_probs, spans });
        Forward { questions_in_step: passes.len(), values, rows, losses, answers, tokens: None }
    }

    fn value(tensor: Tensor<1>) -> f64 {
        f64::from(tensor.into_scalar::<f32>())
    }

    #[test]
    fn losses_worked_out_by_hand() {
        let learn = [vec![Pass::Learn, Pass::Learn, Pass::Skip], vec![Pass::Learn, Pass::Skip, Pass::Learn]];
        let weights = [vec![0.75, 0.25, 0.0], vec![0.5, 0.0, 0.5]];
        let mut log = StepLog::default();
        let loss = weighted_loss(&forward(&learn), &weights, 0.5, &mut log);
        let l_sft = (0.75 * 1.0 + 0.25 * 2.0) + (0.5 * 4.0 + 0.5 * 2.0);
        // JSD((1/2, 1/2) || (1/4, 3/4)) and JSD((1, 0) || (0, 1)).
        let near = 0.661_563_2 - (std::f64::consts::LN_2 + 0.562_335_1) / 2.0;
        let l_cons = 0.75 * 0.25 * near + 0.5 * 0.5 * std::f64::consts::LN_2;
        close(value(loss), l_sft + 0.5 * l_cons);
        let log = log.finish(1).values;
        close(log["l_sft"], l_sft / 2.0);
        close(log["l_cons"], l_cons / 2.0);
        close(log["loss"], (l_sft + 0.5 * l_cons) / 2.0);
    }

    #[test]
    fn without_lambda_the_answers_do_not_matter() {
        let learn = [vec![Pass::Learn, Pass::Learn, Pass::Skip]];
        let loss = weighted_loss(&forward(&learn), &[vec![0.75, 0.25, 0.0]], 0.0, &mut StepLog::default());
        close(value(loss), 1.25);
        assert!(!mind(serde_json::json!({ "lambda": 0.0 })).0.needs(0).answers);
    }

    #[test]
    fn neither_side_has_a_gradient_through_the_other() {
        let (mut mind, _) = mind(serde_json::json!({ "beta": 0.0 }));
        mind.plan(&[0, 1], 0).unwrap();
        let planned = mind.planned.take().unwrap();
        let forward = forward(&mind.plan(&[0, 1], 0).unwrap());
        let mut gradients = mind.meta_loss(&planned).backward();
        assert!(forward.losses.grad(&gradients).is_none());
        let of_assistant = GradientsParams::from_module(&mut gradients, &mind.assistant.model);
        assert!(!of_assistant.is_empty());

        let mut gradients = mind.loss(&forward, &mut StepLog::default()).backward();
        assert!(forward.losses.grad(&gradients).is_some());
        assert!(GradientsParams::from_module(&mut gradients, &mind.assistant.model).is_empty());
    }

    #[test]
    fn the_meta_loss_reads_the_averages_of_present_paths() {
        let (mut mind, _) = mind(serde_json::json!({ "beta": 0.0, "rho": 0.0, "lambda": 0.0 }));
        let passes = mind.plan(&[1], 0).unwrap();
        assert_eq!(passes, [[Pass::Learn, Pass::Skip, Pass::Learn]]);
        let planned = mind.planned.as_ref().unwrap();
        // Base losses 4 and 2 of question `y`: softmax(-4, -2).
        let (s0, s2) = (planned.values[0][0], planned.values[0][2]);
        let divergence = |t0: f64| {
            let p0 = s0.exp() / (s0.exp() + s2.exp());
            p0 * (p0 / t0).ln() + (1.0 - p0) * ((1.0 - p0) / (1.0 - t0)).ln()
        };
        close(value(mind.meta_loss(planned)), divergence(1.0 / (1.0 + 2.0_f64.exp())));
        mind.inertia.observe(1, 0, 2.0);
        close(value(mind.meta_loss(mind.planned.as_ref().unwrap())), divergence(0.5));
    }

    #[test]
    fn one_path_is_std_cot_and_equal_weights_are_uniform() {
        let first = |objective: &mut dyn Objective| {
            let passes = objective.plan(&[0, 1], 0).unwrap();
            value(objective.loss(&forward(&passes), &mut StepLog::default()))
        };
        let (mut equal, paths) = mind(serde_json::json!({ "beta": 0.0, "tau_student": 1e12 }));
        let mut uniform = Uniform::new(&serde_json::from_str("{\"lambda\": 0.5}").unwrap(), &paths);
        close(first(&mut equal), first(&mut uniform));

        let (mut one, mut paths) = mind(serde_json::json!({}));
        one.present = vec![vec![false, false, true]; 2];
        for question in &mut paths.questions {
            question.paths[..2].fill(None);
        }
        let mut std_cot = StdCot::new(&serde_json::from_str("{}").unwrap(), &paths).unwrap();
        close(first(&mut one), first(&mut std_cot));
        close(first(&mut one), 9.0 + 2.0);
    }

    #[test]
    fn unselected_paths_are_measured_every_few_steps() {
        let (mut mind, _) = mind(serde_json::json!({ "beta": 1.0, "refresh": 3 }));
        let mut count = |step, pass| {
            let passes = mind.plan(&[0], step).unwrap();
            passes[0].iter().filter(|found| **found == pass).count()
        };
        assert_eq!(count(0, Pass::Learn), 1);
        assert_eq!([0, 1, 2, 3].map(|step| count(step, Pass::Observe)), [2, 0, 0, 2]);
    }

    /// The variance of the scores' changes from one step of the student to the next, under single-step losses that are
    /// mostly noise.
    fn unrest(params: serde_json::Value) -> f64 {
        use rand::Rng;
        let (mut mind, _) = mind(params);
        let mut rng = rand::rngs::SmallRng::seed_from_u64(2);
        let device = mind.device.clone();
        let mut history: Vec<Vec<f64>> = Vec::new();
        for step in 0..300 {
            let passes = mind.plan(&[0, 1], step).unwrap();
            history.push(mind.planned.as_ref().unwrap().values.concat());
            let mut noisy = |pass: &Pass| (*pass != Pass::Skip).then(|| 2.0 + rng.random_range(-2.0..2.0));
            let values: Vec<Vec<Option<f64>>> =
                passes.iter().map(|passes| passes.iter().map(&mut noisy).collect()).collect();
            let forward = forward(&passes);
            let zeros = Tensor::zeros([forward.rows.len()], &device);
            let forward = Forward { values, losses: zeros, ..forward };
            mind.loss(&forward, &mut StepLog::default());
            mind.stepped().unwrap();
        }
        let changes: Vec<f64> = history[100..]
            .windows(2)
            .flat_map(|pair| {
                pair[0].iter().zip(&pair[1]).map(|(before, after)| after - before).collect::<Vec<_>>()
            })
            .collect();
        let mean = changes.iter().sum::<f64>() / changes.len() as f64;
        changes.iter().map(|change| (change - mean).powi(2)).sum::<f64>() / changes.len() as f64
    }

    #[test]
    fn inertia_calms_the_scores() {
        let params = |rho: f64, learning_rate: f64, accumulation: usize| {
            serde_json::json!({ "beta": 0.0, "lambda": 0.0, "rho": rho, "assistant_learning_rate": learning_rate,
                "assistant_accumulation": accumulation })
        };
        // It is the small rate and the long accumulation that calm them: AdamW follows a slow average with full steps, so the
        // average alone does not. Both inertias at their defaults, and the ablation `instantaneous` beside a student with its default learning rate.
        let (calm, instant) = (unrest(params(0.9, 1e-5, 4)), unrest(params(0.0, 2e-5, 1)));
        assert!(instant / calm >= 4.0, "{instant} is not 4 times {calm}");
    }

    #[test]
    fn an_assistant_for_other_rationales_is_refused() {
        let (fitting, mut paths) = mind(serde_json::json!({}));
        let device = fitting.device.clone();
        let config = AssistantConfig {
            perspectives: fitting.perspectives.clone(),
            feature_size: 2,
            hidden_size: 4,
            num_attention_heads: 2,
            head_hidden_size: 4,
            attention: true,
        };
        let assistant =
            Assistant { config, network: fitting.assistant.valid(), features: fitting.features.clone() };
        paths.questions[0].id = "z".into();
        let error = |paths: &Paths| match Mind::new(&fitting.params, paths, assistant.clone(), &device) {
            Ok(_) => panic!("it was accepted"),
            Err(error) => error.to_string(),
        };
        assert_eq!(error(&paths), "the assistant has no features of question `z`");
        paths.perspectives[1] = "d".into();
        assert!(error(&paths).starts_with("the assistant knows the perspectives `a`, `b`, `c`"));
    }
}
