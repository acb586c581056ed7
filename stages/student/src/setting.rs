//! Checks what a student is told against what it will read and compute on, before anything runs.

use contract::{Setting, meant};

use crate::{ObjectiveParams, StudentError, StudentParams, objectives::chosen};

/// What is wrong, as (JSON pointer, problem).
pub(crate) fn problems(params: &StudentParams, setting: &Setting<'_>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut problem = |field: &str, text: String| problems.push((field.to_owned(), text));
    match &params.objective {
        ObjectiveParams::Undistilled => return problems,
        ObjectiveParams::StdCot(own) => {
            if let Some(text) = unwritten(&own.perspective, setting) {
                problem("/objective/std-cot/perspective", text);
            }
        }
        ObjectiveParams::SbsMultitask(own) => {
            if let Some(text) = unwritten(&own.perspective, setting) {
                problem("/objective/sbs-multitask/perspective", text);
            }
        }
        ObjectiveParams::Edit(_) if !setting.joins("mistakes") => problem(
            "/objective/edit",
            "needs port `mistakes`: join it to the output of that name of a judge".to_owned(),
        ),
        ObjectiveParams::Mind(_) if !setting.joins("assistant") => problem(
            "/objective/mind",
            "needs port `assistant`: add a stage of kind `assistant` and join it".to_owned(),
        ),
        ObjectiveParams::Uniform(_)
        | ObjectiveParams::MccKd(_)
        | ObjectiveParams::Edit(_)
        | ObjectiveParams::LossOnly(_)
        | ObjectiveParams::Mind(_) => {}
    }
    if let Err(error) = params.dtype.check_backend(setting.backend()) {
        problem("/dtype", error.to_string());
    }
    problems
}

/// Why no rationale is from a perspective, where the perspectives are known.
fn unwritten(name: &str, setting: &Setting<'_>) -> Option<String> {
    let known = setting.perspectives("rationales")?;
    let Err(StudentError::UnknownPerspective { name, known }) = chosen(name, &known) else { return None };
    let meant = meant(&name, known.iter().map(String::as_str));
    Some(format!("no rationale is from perspective `{name}`; {meant}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use contract::{Backend, Joined};
    use serde_json::{Value, json};

    use super::*;

    fn told(params: Value, joined: &[&'static str], backend: &str) -> Vec<(String, String)> {
        let params: StudentParams = serde_json::from_value(params).unwrap();
        let known = ["planning".to_owned(), "analogy".to_owned()];
        let labels = BTreeMap::new();
        let one = Joined { stage: "judge", labels: &labels, perspectives: Some(&known) };
        let joined = joined.iter().map(|port| (*port, vec![one])).collect();
        let backend = Backend { name: backend.to_owned(), ..Backend::default() };
        problems(&params, &Setting::new(&backend, joined))
    }

    #[test]
    fn an_objective_has_the_ports_and_perspectives_it_needs() {
        let fields = |objective: Value, joined: &[&'static str]| {
            let problems = told(json!({ "objective": objective }), joined, "flex");
            problems.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(fields(json!({ "mind": {} }), &["rationales"]), ["/objective/mind"]);
        assert!(fields(json!({ "mind": {} }), &["rationales", "assistant"]).is_empty());
        assert_eq!(fields(json!({ "edit": {} }), &["rationales"]), ["/objective/edit"]);
        assert!(fields(json!({ "edit": {} }), &["rationales", "mistakes"]).is_empty());
        let named = |objective: &str, name: &str| json!({ objective: { "perspective": name } });
        for objective in ["std-cot", "sbs-multitask"] {
            let field = format!("/objective/{objective}/perspective");
            assert_eq!(fields(named(objective, "anology"), &["rationales"]), [field]);
            assert!(fields(named(objective, "analogy"), &["rationales"]).is_empty());
            assert!(fields(named(objective, "first"), &["rationales"]).is_empty());
            // Nobody knows yet what the rationales will be.
            assert!(fields(named(objective, "anology"), &[]).is_empty());
        }
        let problems = told(json!({ "objective": named("std-cot", "anology") }), &["rationales"], "flex");
        assert_eq!(problems[0].1, "no rationale is from perspective `anology`; did you mean `analogy`?");
    }

    #[test]
    fn bf16_is_refused_where_the_backend_has_none() {
        let params = |objective: &str| json!({ "objective": objective_of(objective), "dtype": "bf16" });
        let problems = told(params("uniform"), &["rationales"], "flex");
        let text = "backend `flex` cannot compute in `bf16`; use `f32`";
        assert_eq!(problems, [("/dtype".to_owned(), text.to_owned())]);
        assert!(told(params("uniform"), &["rationales"], "tch").is_empty());
        assert!(told(params("undistilled"), &[], "flex").is_empty(), "it trains nothing");
    }

    fn objective_of(name: &str) -> Value {
        if name == "undistilled" { json!(name) } else { json!({ name: {} }) }
    }
}
