//! The `retort` command.

use std::process::ExitCode;

/// Tensors come and go by the thousand a second; the system's allocator gives their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    retort::cli::main(&retort::kinds::KINDS)
}
