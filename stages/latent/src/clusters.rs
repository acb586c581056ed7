//! Perspective clusters: models that were each taught one perspective, against controls.
//!
//! Every text is read by the student of its own perspective, and the vectors of all of them are grouped by perspective. Such
//! clusters come from three things: how perspectives are worded, that any two models trained apart differ, and what a student
//! learned about its own perspective. Two controls on the same texts tell them apart: the undistilled model reads all of them
//! (only wording is left), and students read one another's texts (wording and different weights are left).
//!
//! The [`Verdict`] comes from cosine silhouettes of the vectors themselves, text by text, never from a picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use faer::Mat;
use rand::Rng;
use serde::Serialize;

use crate::{
    agreement::interval,
    measures::silhouettes,
    picture::{mean, rounded},
    subject::Subject,
    vectors::Text,
};

/// Students that differ in what they were taught and share every other axis value.
pub(crate) struct Class<'a> {
    /// The values they share.
    pub(crate) labels: BTreeMap<String, String>,
    /// By perspective.
    pub(crate) students: BTreeMap<usize, &'a Subject<'a>>,
}

/// The classes of students, told by the axis that says what each was taught, of at least two students each.
///
/// Models without the axis, or with a value there that is no perspective, are in none. Of two models with equal labels the
/// first is taken.
pub(crate) fn classes<'a>(
    subjects: &'a [Subject<'a>],
    axis: &str,
    perspectives: &[String],
) -> Vec<Class<'a>> {
    let mut classes: BTreeMap<BTreeMap<String, String>, BTreeMap<usize, &Subject>> = BTreeMap::new();
    for subject in subjects.iter().filter(|subject| !subject.control) {
        let mut labels = subject.input.labels.clone();
        let taught = labels.remove(axis);
        let known = perspectives.iter().position(|name| Some(name) == taught.as_ref());
        if let Some(perspective) = known {
            classes.entry(labels).or_default().entry(perspective).or_insert(subject);
        }
    }
    classes
        .into_iter()
        .filter(|(_, students)| students.len() > 1)
        .map(|(labels, students)| Class { labels, students })
        .collect()
}

/// The vectors of some texts, each from the student so many places after that of its own perspective; `by_student` holds those
/// of all texts.
///
/// # Panics
///
/// If a text's perspective has no student.
pub(crate) fn arranged(
    texts: &[Text],
    rows: &[usize],
    by_student: &BTreeMap<usize, &Mat<f64>>,
    shift: usize,
) -> Mat<f64> {
    let students: Vec<usize> = by_student.keys().copied().collect();
    let read: Vec<&Mat<f64>> = rows
        .iter()
        .map(|row| {
            let own =
                students.binary_search(&texts[*row].perspective).expect("its perspective has a student");
            by_student[&students[(own + shift) % students.len()]]
        })
        .collect();
    Mat::from_fn(rows.len(), read[0].ncols(), |i, j| read[i][(rows[i], j)])
}

/// Each text's silhouette by perspective where the student of another perspective reads it: the mean over all shifts of the
/// students. `None` where fewer than two perspectives are there.
pub(crate) fn swapped_silhouettes(
    texts: &[Text],
    rows: &[usize],
    by_student: &BTreeMap<usize, &Mat<f64>>,
) -> Option<Vec<f64>> {
    let perspective_of: Vec<usize> = rows.iter().map(|row| texts[*row].perspective).collect();
    let shifts = 1..by_student.len();
    let count = shifts.len() as f64;
    let mut sum = vec![0.0; rows.len()];
    for shift in shifts {
        let each = silhouettes(&arranged(texts, rows, by_student, shift), &perspective_of)?;
        sum.iter_mut().zip(each).for_each(|(sum, one)| *sum += one / count);
    }
    (count > 0.0).then_some(sum)
}

/// The silhouette by student where every student reads the same texts, so that wording cannot separate them.
pub(crate) fn same_texts_silhouette(rows: &[usize], by_student: &BTreeMap<usize, &Mat<f64>>) -> Option<f64> {
    let vectors: Vec<&Mat<f64>> = by_student.values().copied().collect();
    let all = Mat::from_fn(rows.len() * vectors.len(), vectors[0].ncols(), |i, j| {
        vectors[i / rows.len()][(rows[i % rows.len()], j)]
    });
    let student_of: Vec<usize> = (0..all.nrows()).map(|i| i / rows.len()).collect();
    silhouettes(&all, &student_of).map(|each| rounded(mean(&each)))
}

/// What separates the perspectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Nothing: there are no clusters.
    None,
    /// Their wording: the undistilled model separates them as well.
    Wording,
    /// Beside their wording, that the students' weights differ, whatever they read.
    Weights,
    /// Beside both, what each student makes of its own perspective.
    Perspective,
}

/// A mean difference of silhouettes, text by text.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Difference {
    pub(crate) mean: f64,
    /// 95 %, from resampled questions.
    pub(crate) interval: [f64; 2],
}

/// The silhouettes of the students and of both controls, and what follows from them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Each text read by the student of its perspective.
    pub(crate) students: f64,
    /// Every text read by the undistilled model.
    pub(crate) control: f64,
    /// Each text read by the student of another perspective, the mean over all shifts of the students.
    pub(crate) swapped: f64,
    /// Students less control.
    pub(crate) beyond_control: Difference,
    /// Students less swapped.
    pub(crate) beyond_swapped: Difference,
}

/// Judges silhouettes, one a text in the same order: a control counts as beaten where the whole interval is above 0.
pub(crate) fn judge(
    students: &[f64],
    control: &[f64],
    swapped: &[f64],
    questions: &[&str],
    rng: &mut impl Rng,
) -> Judged {
    let mut beyond = |other: &[f64]| {
        let each: Vec<f64> = students.iter().zip(other).map(|(own, other)| own - other).collect();
        Difference { mean: rounded(mean(&each)), interval: interval(&each, questions, rng).map(rounded) }
    };
    let (beyond_control, beyond_swapped) = (beyond(control), beyond(swapped));
    let separated = mean(students);
    let verdict = if separated <= 0.0 {
        Verdict::None
    } else if beyond_control.interval[0] <= 0.0 {
        Verdict::Wording
    } else if beyond_swapped.interval[0] <= 0.0 {
        Verdict::Weights
    } else {
        Verdict::Perspective
    };
    Judged {
        verdict,
        students: rounded(separated),
        control: rounded(mean(control)),
        swapped: rounded(mean(swapped)),
        beyond_control,
        beyond_swapped,
    }
}

/// The texts whose perspective has a student, as places in `texts`.
pub(crate) fn taught(texts: &[Text], students: &BTreeSet<usize>) -> Vec<usize> {
    (0..texts.len()).filter(|text| students.contains(&texts[*text].perspective)).collect()
}

impl fmt::Display for Judged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, students, control, swapped, .. } = self;
        let said = match verdict {
            Verdict::None => "no clusters: texts lie no nearer to their own perspective than to another",
            Verdict::Wording => "only wording: the undistilled model separates the perspectives as well",
            Verdict::Weights => {
                "beyond the undistilled control, but not tied to perspectives: students that read one another's texts \
                 separate as well"
            }
            Verdict::Perspective => "clustering beyond both controls",
        };
        let kept = match verdict {
            Verdict::None | Verdict::Wording => String::new(),
            // What is gained over the control, and how much of it does not depend on who reads what.
            Verdict::Weights | Verdict::Perspective => format!(
                "; {:.0} % of the gain over undistilled is there when students read one another's texts",
                100.0 * (swapped - control) / (students - control)
            ),
        };
        let range = |difference: &Difference| {
            let [low, high] = difference.interval;
            format!("{:+.3} [{low:+.3}, {high:+.3}]", difference.mean)
        };
        write!(
            formatter,
            "{said}. Silhouette {students:.3}; undistilled {control:.3}, difference {}; swapped {swapped:.3}, difference {}{kept}",
            range(&self.beyond_control),
            range(&self.beyond_swapped),
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const PERSPECTIVES: usize = 4;
    const QUESTIONS: usize = 30;
    const WIDTH: usize = 24;

    /// What a constructed model makes of texts: strengths of its parts.
    #[derive(Clone, Copy)]
    struct Parts {
        /// Of the direction of a text's perspective, which every model has.
        wording: f64,
        /// Of a direction of the student's own, whatever it reads.
        weights: f64,
        /// Of a direction that a student finds only in texts of its own perspective.
        learned: f64,
    }

    /// Judges the students and controls that consist of these parts, and noise of length about 5.
    fn judged(parts: Parts) -> Judged {
        let mut rng = ChaCha8Rng::seed_from_u64(17);
        let names: Vec<String> = (0..QUESTIONS).map(|question| question.to_string()).collect();
        let texts: Vec<Text> = names
            .iter()
            .flat_map(|question| {
                (0..PERSPECTIVES).map(|perspective| Text { question: question.clone(), perspective })
            })
            .collect();
        let noise = Mat::from_fn(texts.len(), WIDTH, |_, _| rng.random_range(-1.7..1.7));
        let read = |student: Option<usize>| {
            Mat::from_fn(texts.len(), WIDTH, |i, j| {
                let perspective = texts[i].perspective;
                let at = |place: usize, strength: f64| if j == place { strength } else { 0.0 };
                let own = student.map_or(0.0, |student| {
                    let learned = if student == perspective { parts.learned } else { 0.0 };
                    at(PERSPECTIVES + student, parts.weights) + at(2 * PERSPECTIVES + student, learned)
                });
                noise[(i, j)] + at(perspective, parts.wording) + own
            })
        };
        let students: Vec<Mat<f64>> = (0..PERSPECTIVES).map(|student| read(Some(student))).collect();
        let by_student: BTreeMap<usize, &Mat<f64>> = students.iter().enumerate().collect();
        let rows = taught(&texts, &by_student.keys().copied().collect());
        let perspective_of: Vec<usize> = texts.iter().map(|text| text.perspective).collect();
        let of = |vectors: &Mat<f64>| silhouettes(vectors, &perspective_of).unwrap();
        let questions: Vec<&str> = texts.iter().map(|text| text.question.as_str()).collect();
        judge(
            &of(&arranged(&texts, &rows, &by_student, 0)),
            &of(&read(None)),
            &swapped_silhouettes(&texts, &rows, &by_student).unwrap(),
            &questions,
            &mut rng,
        )
    }

    #[test]
    fn the_controls_tell_wording_from_weights_from_what_was_learned() {
        let none = Parts { wording: 0.0, weights: 0.0, learned: 0.0 };
        let wording = judged(Parts { wording: 9.0, ..none });
        assert_eq!(wording.verdict, Verdict::Wording, "{wording}");
        assert!(wording.students > 0.3, "the picture alone would look like clusters: {wording}");
        let weights = judged(Parts { weights: 9.0, ..none });
        assert_eq!(weights.verdict, Verdict::Weights, "{weights}");
        assert!(weights.students > 0.3 && weights.control.abs() < 0.1, "{weights}");
        let learned = judged(Parts { learned: 9.0, ..none });
        assert_eq!(learned.verdict, Verdict::Perspective, "{learned}");
        assert!(learned.control.abs() < 0.1 && learned.swapped.abs() < 0.1, "{learned}");
        let all = judged(Parts { wording: 5.0, weights: 4.0, learned: 5.0 });
        assert_eq!(all.verdict, Verdict::Perspective, "{all}");
        assert!(all.students > all.swapped && all.swapped > all.control, "{all}");
        assert!(all.to_string().contains("% of the gain over undistilled is there"), "{all}");
        assert_eq!(judged(none).verdict, Verdict::None);
    }

    #[test]
    fn the_swapped_control_is_the_mean_over_all_who_could_read() {
        let text = |perspective| Text { question: "q".into(), perspective };
        let texts: Vec<Text> = (0..9).map(|i| text(i % 3)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let vectors: Vec<Mat<f64>> =
            (0..3).map(|_| Mat::from_fn(9, 4, |_, _| rng.random_range(-1.0..1.0))).collect();
        let by_student: BTreeMap<usize, &Mat<f64>> = vectors.iter().enumerate().collect();
        let rows: Vec<usize> = (0..9).collect();
        let perspectives: Vec<usize> = (0..9).map(|i| i % 3).collect();
        let of = |shift| silhouettes(&arranged(&texts, &rows, &by_student, shift), &perspectives).unwrap();
        let found = swapped_silhouettes(&texts, &rows, &by_student).unwrap();
        for (found, (one, two)) in found.iter().zip(of(1).iter().zip(of(2))) {
            assert!((found - (one + two) / 2.0).abs() < 1e-12);
        }
        assert_eq!(swapped_silhouettes(&texts, &rows, &BTreeMap::from([(0, &vectors[0])])), None);
    }

    #[test]
    fn texts_are_read_by_the_student_of_their_perspective_or_by_the_next() {
        let text = |perspective| Text { question: "q".into(), perspective };
        let texts = [text(0), text(1), text(2), text(2)];
        let marked = |mark: f64| Mat::from_fn(4, 1, |i, _| mark + i as f64);
        let (zero, two) = (marked(10.0), marked(20.0));
        let by_student = BTreeMap::from([(0, &zero), (2, &two)]);
        let rows = taught(&texts, &by_student.keys().copied().collect());
        assert_eq!(rows, [0, 2, 3], "nobody was taught perspective 1");
        let read =
            |shift| arranged(&texts, &rows, &by_student, shift).col(0).iter().copied().collect::<Vec<_>>();
        assert_eq!(read(0), [10.0, 22.0, 23.0]);
        assert_eq!(read(1), [20.0, 12.0, 13.0]);
        assert_eq!(read(2), read(0));
        assert_eq!(same_texts_silhouette(&rows, &BTreeMap::from([(0, &zero), (2, &zero)])), Some(0.0));
    }
}
