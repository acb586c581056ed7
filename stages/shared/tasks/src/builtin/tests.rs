#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::PERSPECTIVES;

const BUILTIN: [Task; 3] = [Task::Arithmetic, Task::Comparison, Task::Calendar];

#[test]
#[expect(clippy::print_stdout, reason = "for people: --nocapture shows every perspective")]
fn shows() {
    for task in BUILTIN {
        for question in generate(task, Split::Train, 1, 6).unwrap() {
            println!("\n{}", crate::prompt(&question));
            let solution = solve(&question).unwrap();
            let wrong = corrupt(&solution, &mut ChaCha8Rng::seed_from_u64(3));
            for perspective in PERSPECTIVES {
                let text = write(perspective, &question, &solution).unwrap();
                println!("  {perspective:16} [{}] {text}", text.split_whitespace().count());
            }
            println!(
                "  {} WRONG {} {}",
                solution.answer,
                wrong.answer,
                write("planning", &question, &wrong).unwrap()
            );
        }
    }
    println!("{:#?}", primer(1, 40));
}
