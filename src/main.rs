//! The `retort` command.

use std::process::ExitCode;

/// Tensors come and go by the thousand a second; the system's allocator gives their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages();
    retort::cli::main(&retort::kinds::KINDS)
}

/// Starts the program again, as the same process, with an allocator that gives no pages back.
///
/// A training step takes again what the step before gave back, and the kernel clears it each time: a tenth of a step of a
/// LoRA student. The allocator reads this setting before `main`, and only from the environment.
fn keep_pages() {
    const SETTING: &str = "MIMALLOC_PURGE_DELAY";
    #[cfg(unix)]
    if std::env::var_os(SETTING).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new(program);
        // This returns only where it fails, and then all goes on as it is.
        let _ = again.args(std::env::args_os().skip(1)).env(SETTING, "-1").exec();
    }
}
