//! What a job's result file and Slurm's word for it mean together.
//!
//! The result file is the truth where there is one. Slurm's word decides what an interruption was, and what an end without a
//! result was. Whatever neither of them says is unknown, and unknown is not failed: the job is waited for.

use std::time::Duration;

use super::commands::Listed;
use crate::job::{Exit, JobResult};

/// How long a job may be neither listed nor have left a result before it counts as lost, and how long a result may take to
/// be seen through a shared file system.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// What is known of a job besides its result.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// The scheduler has not answered since the job was submitted or last listed.
    None,
    /// It answers and does not list the job, for so long. One that was last listed as waiting and has opened no output has
    /// never started; of those Slurm forgets at once what was cancelled. Then its number is here.
    Unlisted(Duration, Option<String>),
    /// It lists the job; and for how long in this state.
    Listed(Listed, Duration),
}

/// What is to be done about a job.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// Its result is to be taken from the store.
    Done,
    /// It failed by itself.
    Failed { problem: String, help: Option<String> },
    /// Somebody ended it; trying again on its own would defy them.
    Cancelled { problem: String, help: String },
    /// It was stopped by no fault of its own and goes on in another job.
    Again { why: String },
}

/// Whether a state is an end. In any other, and in those not known here, Slurm runs the job or still means to.
fn over(state: &str) -> bool {
    matches!(
        state,
        "COMPLETED"
            | "FAILED"
            | "CANCELLED"
            | "TIMEOUT"
            | "NODE_FAIL"
            | "PREEMPTED"
            | "BOOT_FAIL"
            | "DEADLINE"
            | "OUT_OF_MEMORY"
            | "REVOKED"
    )
}

/// `time` is the limit the job was given; `output` tells where its output is and how it ends.
pub(super) fn judge(
    result: Option<&JobResult>,
    word: &Word,
    time: Option<&str>,
    output: &dyn Fn() -> String,
) -> Verdict {
    match (result.map(|result| result.exit), word) {
        (Some(Exit::Done), _) => Verdict::Done,
        (Some(Exit::Failed), _) => Verdict::Failed {
            problem: result
                .and_then(|result| result.error.clone())
                .unwrap_or_else(|| "no reason given".into()),
            help: result.and_then(|result| result.help.clone()),
        },
        (Some(Exit::Interrupted), Word::Listed(listed, _)) if over(&listed.state) => {
            match listed.state.as_str() {
                "CANCELLED" => cancelled(&listed.job),
                "PREEMPTED" => Verdict::Again { why: format!("job {} was preempted", listed.job) },
                "NODE_FAIL" | "BOOT_FAIL" => node_failed(&listed.job),
                _ => Verdict::Again {
                    why: format!("job {} came near its time limit and stopped at a checkpoint", listed.job),
                },
            }
        }
        (Some(Exit::Interrupted), Word::Unlisted(since, _)) if *since > GRACE => {
            Verdict::Again { why: "the job was told to stop and stopped at a checkpoint".to_owned() }
        }
        (None, Word::Listed(listed, since)) if over(&listed.state) => {
            ended_silently(listed, *since, time, output)
        }
        (None, Word::Unlisted(since, Some(job))) if *since > GRACE / 6 => cancelled(job),
        (None, Word::Unlisted(since, None)) if *since > GRACE => Verdict::Again {
            why: "the job left no result, and the scheduler does not know it any more".to_owned(),
        },
        (Some(Exit::Interrupted) | None, Word::None | Word::Unlisted(..) | Word::Listed(..)) => Verdict::Wait,
    }
}

fn ended_silently(
    listed: &Listed,
    since: Duration,
    time: Option<&str>,
    output: &dyn Fn() -> String,
) -> Verdict {
    let Listed { job, state, .. } = listed;
    match state.as_str() {
        "CANCELLED" => cancelled(job),
        "NODE_FAIL" | "BOOT_FAIL" => node_failed(job),
        "PREEMPTED" => Verdict::Again { why: format!("job {job} was preempted") },
        "TIMEOUT" | "DEADLINE" => {
            let limit = time.map(|time| format!(", {time}")).unwrap_or_default();
            Verdict::Failed {
                problem: format!(
                    "job {job} was killed at its time limit{limit}, before it reached a checkpoint"
                ),
                help: Some(
                    "raise `time`, or `warn` so that it is told to stop earlier; the next attempt goes on \
                     from what it has written down"
                        .to_owned(),
                ),
            }
        }
        "OUT_OF_MEMORY" => Verdict::Failed {
            problem: format!("job {job} was killed because it used more memory than it was given"),
            help: Some("raise `mem` of its `executor`".to_owned()),
        },
        // A result may still be on its way through a shared file system.
        _ if since < GRACE / 6 || (state == "COMPLETED" && since < GRACE) => Verdict::Wait,
        _ => Verdict::Failed {
            problem: format!("job {job} ended as {state} and left no result"),
            help: Some(format!("its output: {}", output())),
        },
    }
}

fn node_failed(job: &str) -> Verdict {
    Verdict::Again { why: format!("the node of job {job} failed") }
}

fn cancelled(job: &str) -> Verdict {
    Verdict::Cancelled {
        problem: format!("job {job} was cancelled, and not by this run"),
        help: "the same command submits it again; what it had written down is kept".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn result(exit: Exit) -> JobResult {
        JobResult {
            attempt: "a".into(),
            exit,
            error: Some("broken".into()),
            help: None,
            outputs: BTreeMap::new(),
            computed: true,
            started: String::new(),
            ended: String::new(),
            seconds: 1.0,
            host: "n1".into(),
            devices: None,
        }
    }

    fn word(state: &str, seconds: u64) -> Word {
        let listed = Listed { job: "7_0".into(), state: state.into(), reason: "None".into() };
        Word::Listed(listed, Duration::from_secs(seconds))
    }

    #[test]
    fn every_end_is_what_it_is() {
        let kind = |result: Option<Exit>, word: Word| match judge(
            result.map(self::result).as_ref(),
            &word,
            Some("1:00"),
            &|| "out".to_owned(),
        ) {
            Verdict::Wait => "wait",
            Verdict::Done => "done",
            Verdict::Failed { .. } => "failed",
            Verdict::Cancelled { .. } => "cancelled",
            Verdict::Again { .. } => "again",
        };
        let unlisted = |seconds| Word::Unlisted(Duration::from_secs(seconds), None);
        // The result file is the truth, whatever Slurm says.
        for state in ["RUNNING", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT"] {
            assert_eq!(kind(Some(Exit::Done), word(state, 0)), "done", "{state}");
            assert_eq!(kind(Some(Exit::Failed), word(state, 0)), "failed", "{state}");
        }
        assert_eq!(kind(Some(Exit::Done), Word::None), "done");
        // An interruption is what Slurm says it was, once it says so.
        let interrupted = [
            ("RUNNING", "wait"),
            ("COMPLETING", "wait"),
            ("PENDING", "wait"),
            ("COMPLETED", "again"),
            ("FAILED", "again"),
            ("TIMEOUT", "again"),
            ("PREEMPTED", "again"),
            ("NODE_FAIL", "again"),
            ("CANCELLED", "cancelled"),
        ];
        let failed = judge(Some(&self::result(Exit::Interrupted)), &word("NODE_FAIL", 0), None, &String::new);
        assert_eq!(failed, Verdict::Again { why: "the node of job 7_0 failed".to_owned() });
        for (state, expected) in interrupted {
            assert_eq!(kind(Some(Exit::Interrupted), word(state, 0)), expected, "{state}");
        }
        assert_eq!(kind(Some(Exit::Interrupted), unlisted(1)), "wait");
        assert_eq!(kind(Some(Exit::Interrupted), unlisted(61)), "again");
        // Without a result.
        let silent = [
            ("PENDING", 9999, "wait"),
            ("RUNNING", 9999, "wait"),
            ("A_STATE_OF_TOMORROW", 9999, "wait"),
            ("CANCELLED", 0, "cancelled"),
            ("NODE_FAIL", 0, "again"),
            ("BOOT_FAIL", 0, "again"),
            ("PREEMPTED", 0, "again"),
            ("TIMEOUT", 0, "failed"),
            ("OUT_OF_MEMORY", 0, "failed"),
            ("FAILED", 0, "wait"),
            ("FAILED", 11, "failed"),
            ("COMPLETED", 11, "wait"),
            ("COMPLETED", 61, "failed"),
        ];
        for (state, seconds, expected) in silent {
            assert_eq!(kind(None, word(state, seconds)), expected, "{state} {seconds}");
        }
        assert_eq!(kind(None, Word::None), "wait");
        assert_eq!(kind(None, unlisted(59)), "wait");
        assert_eq!(kind(None, unlisted(61)), "again");
        // Cancelled before it started.
        let waited = |seconds| Word::Unlisted(Duration::from_secs(seconds), Some("7_0".to_owned()));
        assert_eq!(kind(None, waited(9)), "wait");
        assert_eq!(kind(None, waited(11)), "cancelled");
        assert_eq!(kind(Some(Exit::Done), waited(11)), "done");
    }
}
