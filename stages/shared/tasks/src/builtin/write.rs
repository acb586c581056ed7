//! The eight perspectives, each a way to put the same steps into words.

use super::{Operator, Solution};

/// The words a family of questions lends to the perspectives.
pub(super) struct Telling {
    /// A picture to start from, a sentence without its stop: `Picture 12 pens on a table`.
    pub(super) picture: String,
    /// A problem of the same form: `Think of a lift on floor 12`.
    pub(super) likeness: String,
    /// How that problem maps back: `Floors are pens`.
    pub(super) mapping: String,
    /// A tempting wrong way, as a command, and why it fails.
    pub(super) tempting: String,
    pub(super) objection: String,
    /// A changed condition, after how many steps it would be over, and what really holds.
    pub(super) suppose: String,
    pub(super) spared: usize,
    pub(super) binding: String,
    /// One a step.
    pub(super) beats: Vec<Beat>,
    /// What comes out: `14 pens`, `Ann, choice B`.
    pub(super) closing: String,
}

/// One step in words.
pub(super) struct Beat {
    /// What happens: `Tom finds 5`.
    pub(super) clause: String,
    /// What to do: `add 5`.
    pub(super) task: String,
    /// What is seen: `5 more come`.
    pub(super) picture: String,
    /// What happens in the likeness: `5 floors up`.
    pub(super) likeness: String,
}

pub(super) fn write(perspective: &str, solution: &Solution, telling: &Telling) -> Option<String> {
    let Telling { picture, likeness, mapping, tempting, objection, suppose, binding, closing, .. } = telling;
    let equations: Vec<String> = solution.steps.iter().map(ToString::to_string).collect();
    let told = |tell: &dyn Fn(usize, &Beat, &str) -> String, separator: &str| {
        let beats = telling.beats.iter().zip(&equations).enumerate();
        beats.map(|(index, (beat, equation))| tell(index, beat, equation)).collect::<Vec<_>>().join(separator)
    };
    Some(match perspective {
        "formal-symbolic" => {
            let lines = told(&|index, _, equation| define(solution, index, equation), " ");
            format!("{lines} Hence {closing}.")
        }
        "intuitive" => {
            let scenes = told(&|_, beat, equation| format!("{}, {equation}", upper(&beat.picture)), ". ");
            format!("{picture}. {scenes}. You see {closing}.")
        }
        "decomposition" => {
            let parts = told(
                &|index, beat, equation| format!("{}) {}: {equation}.", index + 1, upper(&beat.clause)),
                " ",
            );
            format!("{parts} Together: {closing}.")
        }
        "planning" => {
            let plan = told(&|_, beat, _| beat.task.clone(), ", then ");
            format!("Plan: {plan}. Do: {}. Done: {closing}.", equations.join(", then "))
        }
        "analogy" => {
            let moves = told(&|_, beat, equation| format!("{}, {equation}", beat.likeness), "; ");
            format!("{likeness}: {moves}. {mapping}, so {closing}.")
        }
        "socratic" => {
            let talk = told(
                &|index, beat, equation| {
                    let ask = if index == 0 { "What first?" } else { "Then?" };
                    format!("Q: {ask} A: {}, so {equation}.", upper(&beat.clause))
                },
                " ",
            );
            format!("{talk} Q: So? A: {closing}.")
        }
        "contrastive" => format!(
            "One way: {tempting}. But {objection}, so this way is out. Other way: {}. It holds: {closing}.",
            equations.join(", then ")
        ),
        "counterfactual" => {
            let (spared, rest) = equations.split_at(telling.spared);
            format!(
                "Suppose {suppose}: {} would be the end. But {binding}, and that decides: {}. So {closing}.",
                spared.join(", "),
                rest.join(", ")
            )
        }
        _ => return None,
    })
}

/// `Let b = a - 3 = 17 - 3 = 14.`
fn define(solution: &Solution, index: usize, equation: &str) -> String {
    let step = &solution.steps[index];
    let name = |index: usize| char::from(b'a' + u8::try_from(index % 26).expect("below 26")).to_string();
    let symbols = step.symbolic(name);
    let variable = name(index);
    match step.operator {
        Operator::Greater | Operator::Less => format!("Let {variable} = {symbols}: {equation}."),
        _ if equation.starts_with(&symbols) => format!("Let {variable} = {equation}."),
        Operator::Plus | Operator::Minus | Operator::Times | Operator::After => {
            format!("Let {variable} = {symbols} = {equation}.")
        }
    }
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
