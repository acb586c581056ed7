//! The cells of one stage: the product of its axes, of that what `include` selects, less what `exclude` does.

use super::{Draft, named, unknown_axis};
use crate::recipe::{AxisValue, Diagnostic, Recipe, Selector};

/// One axis value an axis, in the order of the stage's axes.
pub(super) type Combination<'r> = Vec<(&'r str, &'r AxisValue)>;

/// No stage needs more; a typing mistake easily makes more.
const MOST_CELLS: usize = 1_000_000;

/// Every combination a stage has, in recipe order.
pub(super) fn combinations<'r>(
    recipe: &'r Recipe,
    draft: &Draft<'_>,
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<Combination<'r>> {
    let before = mistakes.len();
    let mut axes = Vec::new();
    for axis in &draft.axes {
        match recipe.axes.iter().find(|known| known.name.value == axis.value) {
            Some(axis) => axes.push(axis),
            None => return Vec::new(), // Said where the stage was read.
        }
    }
    let product = axes.iter().map(|axis| axis.values.len()).fold(1, usize::saturating_mul);
    if product > MOST_CELLS {
        let message = format!("{} has {product} cells, more than {MOST_CELLS}", named(draft));
        mistakes.push(Diagnostic::at(draft.span, message).help("leave an axis out of its matrix"));
        return Vec::new();
    }
    let mut combinations: Vec<Combination<'r>> = vec![Vec::new()];
    for axis in &axes {
        combinations = combinations
            .into_iter()
            .flat_map(|combination| {
                axis.values.iter().map(move |value| {
                    let mut longer = combination.clone();
                    longer.push((axis.name.value.as_str(), value));
                    longer
                })
            })
            .collect();
    }
    for selector in draft.exclude {
        check(recipe, draft, selector, mistakes);
    }
    // The recipe's own exclusions concern the stages that have all their axes.
    let concerns = |selector: &&Selector| {
        selector.pairs.iter().all(|(axis, _)| draft.axes.iter().any(|own| own.value == axis.value))
    };
    let excluded: Vec<&Selector> =
        draft.exclude.iter().chain(recipe.exclude.iter().filter(concerns)).collect();
    combinations.retain(|combination| !excluded.iter().any(|selector| fits(selector, combination)));
    for selector in draft.include {
        check(recipe, draft, selector, mistakes);
    }
    if !draft.include.is_empty() {
        combinations.retain(|combination| draft.include.iter().any(|selector| fits(selector, combination)));
    }
    if combinations.is_empty() && mistakes.len() == before {
        mistakes.push(Diagnostic::at(
            draft.span,
            format!("{} has no cell left after `include` and `exclude`", named(draft)),
        ));
    }
    combinations
}

fn fits(selector: &Selector, combination: &Combination<'_>) -> bool {
    selector.pairs.iter().all(|(axis, wanted)| {
        combination.iter().any(|(name, value)| *name == axis.value && value.name == wanted.value)
    })
}

/// Whether a stage's selector names axes and values that are there.
fn check(recipe: &Recipe, draft: &Draft<'_>, selector: &Selector, mistakes: &mut Vec<Diagnostic>) -> bool {
    let found = mistakes.len();
    for (axis, wanted) in &selector.pairs {
        let own = draft.axes.iter().any(|own| own.value == axis.value);
        match recipe.axes.iter().find(|known| known.name.value == axis.value) {
            None => mistakes.push(unknown_axis(recipe, axis, &named(draft))),
            Some(_) if !own => mistakes.push(Diagnostic::at(
                axis.span,
                format!("axis `{}` is not in the matrix of {}", axis.value, named(draft)),
            )),
            Some(known) => {
                let names = || known.values.iter().map(|value| value.name.as_str());
                if !names().any(|name| name == wanted.value) {
                    let message = format!("axis `{}` has no value `{}`", axis.value, wanted.value);
                    mistakes.push(Diagnostic::at(wanted.span, message).suggest(&wanted.value, names()));
                }
            }
        }
    }
    mistakes.len() == found
}
