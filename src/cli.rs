//! The command line. stdout is data, stderr is for people.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    graph::{Graph, TargetError},
    kinds::{Ask, Kinds, Serve, TableFormat},
    lock::LockError,
    log::describe,
    recipe::{Diagnostics, Recipe},
    remote::{Access, RemoteError},
    reporter::{counted, say},
    secrets::MissingSecret,
    shell::quoted,
    store::{Store, StoreError, Use},
    watch,
};

mod audit;
mod cell;
mod collect;
mod diff;
mod draw;
mod inspect;
mod models;
mod report;
mod schema;
mod share;
mod work;

/// What the process's exit code means.
pub mod exit {
    /// Everything asked for is done; for `plan`, nothing is to be done.
    pub const DONE: u8 = 0;
    /// A bug in retort.
    pub const BUG: u8 = 1;
    /// The recipe or the arguments are wrong.
    pub const BAD_INPUT: u8 = 2;
    /// A cell or a backend's test failed, a cell did not make the same again, or the store could not be used.
    pub const FAILED: u8 = 3;
    /// For `plan` and `pull`: there is work to do.
    pub const WORK_TO_DO: u8 = 4;
    /// The user interrupted the run.
    pub const INTERRUPTED: u8 = 130;
}

/// Turns a recipe into a distilled student, a results table and an analysis of what changed.
#[derive(Parser)]
#[command(name = "retort", version, about, after_help = EXIT_CODES)]
struct Arguments {
    /// Where artifacts are kept
    #[arg(long, global = true, env = "RETORT_STORE", default_value = ".retort", value_name = "DIR")]
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a bug in retort; 2 bad recipe or arguments; 3 a cell failed, `verify` found a \
difference, `backends --test` found a fault, or the store could not be used; 4 `plan` or `pull` found work to do; \
130 interrupted";

#[derive(clap::Args)]
struct RecipeArguments {
    /// The recipe, a YAML file
    recipe: PathBuf,
    /// Replace a value of the recipe: `--set vars.data=../data`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// What to compute on, in place of the recipe's `backend`
    #[arg(long)]
    backend: Option<String>,
}

#[derive(clap::Args)]
struct RemoteArguments {
    /// A remote cache, in place of the recipe's: `s3://bucket/prefix`, `gs://..`, `az://..`, a folder, or `none`
    #[arg(long, env = "RETORT_REMOTE", hide_env_values = true, value_name = "URL")]
    remote: Option<String>,
    /// What runs do with it, in place of what the recipe says; `read-write` where neither does
    #[arg(long, env = "RETORT_REMOTE_ACCESS", value_enum, value_name = "ACCESS")]
    remote_access: Option<Access>,
}

#[derive(Subcommand)]
enum Command {
    /// Run what is not up to date, and print the tables
    Run {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Cells, stages or tables to run with all they need; everything by default
        targets: Vec<String>,
        /// CPU threads for all cells together; all cores by default
        #[arg(long, short)]
        jobs: Option<usize>,
        /// Start nothing more after a failure
        #[arg(long)]
        fail_fast: bool,
        /// Show only failures and tables
        #[arg(long, short)]
        quiet: bool,
        /// Show the run in a view of the whole terminal: cells, losses, weights; `q` goes back to lines
        #[arg(long, conflicts_with = "quiet")]
        watch: bool,
        /// Accelerators to share out, as `CUDA_VISIBLE_DEVICES` names them: each cell that takes one gets a process that sees
        /// only its own
        #[arg(long, value_delimiter = ',', value_name = "ID,..")]
        devices: Vec<String>,
        /// Refuse to differ from the recipe's lock
        #[arg(long)]
        locked: bool,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Say what would run and why; exit code 4 if anything would
    Plan {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Cells, stages or tables to plan with all they need; everything by default
        targets: Vec<String>,
        /// Name every cell, the reused ones too
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Say why one cell would run, field by field
    Why {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// The cell, as `plan` names it
        cell: String,
    },
    /// Let a cell's earlier result stand for what it has become: for changes that cannot matter
    Accept {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// The cell, or a stage
        cell: String,
        /// Why; kept with the result and shown by `why`
        #[arg(long)]
        reason: String,
    },
    /// Compute finished cells again and compare their outputs, byte for byte; exit code 3 if they differ
    Verify {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// The cell, or a stage
        cell: String,
        /// How many times in all, the stored result included
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..))]
        times: u8,
    },
    /// Write what the tables were made from into a file to commit, and keep it from `gc`
    Lock {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Cells, stages or tables; all tables by default
        targets: Vec<String>,
        /// Let `gc` remove it again; the file stays
        #[arg(long, conflicts_with = "targets")]
        unpin: bool,
    },
    /// Send finished cells to the remote cache
    Push {
        /// The recipe; without one, everything in the store
        recipe: Option<PathBuf>,
        /// Cells, stages or tables to send with all they need; everything by default
        targets: Vec<String>,
        /// Replace a value of the recipe: `--set vars.data=../data`
        #[arg(long = "set", value_name = "PATH=VALUE")]
        sets: Vec<String>,
        /// What was computed on, in place of the recipe's `backend`
        #[arg(long)]
        backend: Option<String>,
        /// Write over what is there
        #[arg(long)]
        over: bool,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Bring finished cells of a recipe from the remote cache; exit code 4 if some are not there
    Pull {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// Cells, stages or tables to bring with all they need; everything by default
        targets: Vec<String>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Find every mistake in recipes, without running anything
    Check {
        /// Recipes
        #[arg(required = true)]
        recipes: Vec<PathBuf>,
        /// Replace a value of the recipes
        #[arg(long = "set", value_name = "PATH=VALUE")]
        sets: Vec<String>,
    },
    /// Draw the stages and what they read, the matrix folded
    Graph {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// How to draw
        #[arg(long, value_enum, default_value = "text")]
        format: draw::GraphFormat,
    },
    /// Print tables that are up to date
    Table {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// One table; all by default
        table: Option<String>,
        /// How to print
        #[arg(long, value_enum, default_value = "terminal")]
        format: TableFormat,
    },
    /// Write the report: one HTML file with results, curves, figures, samples and cost, that needs no network
    Report {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// The file, or `-` for stdout; `<name of the recipe>-report.html` by default
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Print an artifact readably
    Show {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// A cell, or a cell and one of its output ports: `student[method=mind,seed=1]:metrics`
        cell: String,
        /// How many records of each file; `all` shows every one
        #[arg(long, short = 'n', default_value = "5", value_parser = records, value_name = "N")]
        records: usize,
        /// Print only where the artifact is
        #[arg(long)]
        path: bool,
    },
    /// Ask a model a question; the answer is printed as it is written
    #[command(
        override_usage = "retort ask [OPTIONS] MODEL QUESTION\n       retort ask [OPTIONS] RECIPE CELL[:PORT] QUESTION"
    )]
    Ask {
        /// A model's folder and the question, or a recipe, one of its cells that makes a model, and the question
        #[arg(required = true, num_args = 2..=3, value_name = "MODEL QUESTION")]
        words: Vec<String>,
        /// Ask as this task's questions are asked; without it the text goes to the model as it is, or through its chat template where it has one
        #[arg(long)]
        task: Option<String>,
        /// Replace a value of the recipe
        #[arg(long = "set", value_name = "PATH=VALUE")]
        sets: Vec<String>,
        /// What to compute on; the recipe's `backend`, or `flex`, by default
        #[arg(long)]
        backend: Option<String>,
        /// Where the answer is cut, in tokens
        #[arg(long, default_value_t = 256)]
        max_new_tokens: usize,
        /// How random the answer is: 0 takes the likeliest token, 1 draws as the model says
        #[arg(long, default_value_t = 0.0)]
        temperature: f64,
        /// Decides what is random in the answer
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Serve a model on an endpoint that speaks OpenAI's protocol, until Ctrl-C
    #[command(
        override_usage = "retort serve [OPTIONS] MODEL\n       retort serve [OPTIONS] RECIPE CELL[:PORT]"
    )]
    Serve {
        /// A model's folder, or a recipe and one of its cells that makes a model
        #[arg(required = true, num_args = 1..=2, value_name = "MODEL")]
        words: Vec<String>,
        /// The address to listen on; the default is reached from this machine only
        #[arg(long, default_value = "127.0.0.1")]
        host: String,
        /// The port; 0 takes any that is free and prints the address
        #[arg(long, default_value_t = 8000)]
        port: u16,
        /// What requests call the model; the folder's or the cell's name by default
        #[arg(long)]
        name: Option<String>,
        /// Replace a value of the recipe
        #[arg(long = "set", value_name = "PATH=VALUE")]
        sets: Vec<String>,
        /// What to compute on; the recipe's `backend`, or `flex`, by default
        #[arg(long)]
        backend: Option<String>,
    },
    /// Copy a model out of the store, as a Hugging Face folder
    Export {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// A cell that makes a model, or it and its output port: `student[method=mind,seed=1]`
        cell: String,
        /// The folder; empty, or not there yet
        folder: PathBuf,
    },
    /// Write training logs as TensorBoard event files, a folder a cell
    Tensorboard {
        #[command(flatten)]
        recipe: RecipeArguments,
        /// A stage or cell with a training log: `student`, `student[method=mind]`
        cell: String,
        /// The folder that `tensorboard --logdir` is given
        folder: PathBuf,
    },
    /// List the runs of the store
    Runs,
    /// Show a run that another process does, in a view of the whole terminal; `q` leaves it and the run alone
    Watch {
        /// The run, as `runs` names it, or its recipe; the last one by default
        run: Option<String>,
    },
    /// Say what changed from one run to another: in the recipe, in results and in artifacts
    Diff {
        /// The earlier run, as `runs` names it
        run_a: String,
        /// The later run
        run_b: String,
    },
    /// Print the events of a run
    Logs {
        /// The run, as `runs` names it; the last one by default
        run: Option<String>,
        /// Only events of cells whose name contains this
        #[arg(long)]
        cell: Option<String>,
        /// Print the events as they are stored, JSON Lines
        #[arg(long)]
        json: bool,
    },
    /// Remove what no recipe's latest state needs; journals stay, because their items were paid for
    Gc {
        /// Only say what would be removed and what each byte is for
        #[arg(long)]
        dry_run: bool,
        /// Keep unneeded results until the store is larger than this, oldest go first: `10GB`
        #[arg(long, default_value = "0")]
        max_size: String,
    },
    /// Compute one cell from its record, as jobs on a cluster do
    Cell {
        /// A `job.json`, or the fingerprint of a cell that a run has submitted from this store
        record: String,
        /// What this attempt is called in its result
        #[arg(long, default_value = "by hand")]
        attempt: String,
        /// Stop when stdin ends, for whoever starts it and may be killed
        #[arg(long)]
        attended: bool,
    },
    /// List the kinds of stages with their ports and params
    Kinds {
        /// One kind in full
        kind: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a JSON Schema of recipes, for editors
    Schema,
    /// List what this build and machine can compute on
    Backends {
        /// Also let a small model generate and train on each that is usable, and compare it with flex
        #[arg(long)]
        test: bool,
    },
    /// Write a starting recipe with comments
    Init {
        /// The folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Recipe(Diagnostics),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Stage(#[from] contract::StageError),
    #[error("{}", join(.0, ToString::to_string))]
    Secrets(Vec<MissingSecret>),
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{message}")]
    Asked { message: String, help: Option<String> },
    #[error("{problem}")]
    Backend { problem: String, help: String },
}

impl CliError {
    fn code(&self) -> u8 {
        match self {
            Self::Recipe(_)
            | Self::Target(_)
            | Self::Lock(_)
            | Self::Asked { .. }
            | Self::Backend { .. }
            | Self::Secrets(_) => exit::BAD_INPUT,
            Self::Remote(RemoteError::NotBuilt | RemoteError::Open { .. }) => exit::BAD_INPUT,
            Self::Remote(RemoteError::Interrupted) => exit::INTERRUPTED,
            Self::Store(_) | Self::Stage(_) | Self::Write { .. } | Self::Remote(_) => exit::FAILED,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Target(error) => error.help(),
            Self::Stage(error) => error.help().map(str::to_owned),
            Self::Remote(error) => error.help().map(str::to_owned),
            Self::Secrets(missing) => Some(join(missing, MissingSecret::help)),
            Self::Asked { help, .. } => help.clone(),
            Self::Backend { help, .. } => Some(help.clone()),
            Self::Store(error) => Some(error.help().to_owned()),
            Self::Lock(LockError::Io { .. }) => Some("`retort lock RECIPE` writes one".to_owned()),
            Self::Lock(LockError::Line { .. }) => {
                Some("resolve it by hand, or `retort lock` again".to_owned())
            }
            Self::Recipe(_) | Self::Write { .. } => None,
        }
    }
}

fn join<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Reads the arguments, does what they say, and returns the exit code.
pub fn main(kinds: &'static Kinds) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RETORT_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| watch::Stderr).without_time().init();
    quiet_worker_panics();
    let arguments = Arguments::parse();
    match command(kinds, arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            match &error {
                // Diagnostics bring their own `error:` lines.
                CliError::Recipe(diagnostics) => say(diagnostics.to_string().trim_end()),
                error => say(&format!("error: {}", describe(error))),
            }
            if let Some(help) = error.help() {
                say(&format!("help: {help}"));
            }
            ExitCode::from(error.code())
        }
    }
}

/// A panic in a cell becomes a failed cell; its place goes to the log rather than across the progress bars.
fn quiet_worker_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some("main") {
            watch::close_anyway();
            usual(info);
        } else {
            tracing::info!("{info}");
        }
    }));
}

fn command(kinds: &'static Kinds, arguments: Arguments) -> Result<u8, CliError> {
    let store = || Ok::<_, CliError>(Store::open(&arguments.store, Use::Shared)?);
    match arguments.command {
        Command::Run { recipe, targets, jobs, fail_fast, quiet, watch, locked, devices, remote } => {
            let graph = load(kinds, &recipe)?;
            let remote = share::if_there(&remote, &graph)?;
            work::run(
                kinds,
                &graph,
                &store()?,
                &recipe.recipe,
                &targets,
                work::Settings { jobs, fail_fast, quiet, watch, locked, devices, remote },
            )
        }
        Command::Plan { recipe, targets, all, json, remote } => {
            let graph = load(kinds, &recipe)?;
            let remote = share::if_there(&remote, &graph)?;
            work::plan(&graph, &store()?, &targets, remote.as_deref(), all, json)
        }
        Command::Push { recipe, targets, sets, backend, over, remote } => {
            let arguments = recipe.map(|recipe| RecipeArguments { recipe, sets, backend });
            let graph = arguments.map(|arguments| load(kinds, &arguments)).transpose()?;
            let remote = share::open(&remote, graph.as_ref())?;
            share::push(graph.as_ref(), &store()?, &remote, &targets, over)
        }
        Command::Pull { recipe, targets, remote } => {
            let graph = load(kinds, &recipe)?;
            share::pull(&graph, &store()?, &share::open(&remote, Some(&graph))?, &targets)
        }
        Command::Why { recipe, cell } => work::why(&load(kinds, &recipe)?, &store()?, &cell),
        Command::Accept { recipe, cell, reason } => {
            audit::accept(&load(kinds, &recipe)?, &store()?, &cell, &reason)
        }
        Command::Verify { recipe, cell, times } => {
            audit::verify(&load(kinds, &recipe)?, &store()?, &cell, usize::from(times))
        }
        Command::Lock { recipe, targets, unpin } => {
            audit::lock(&load(kinds, &recipe)?, &store()?, &recipe.recipe, &targets, unpin)
        }
        Command::Check { recipes, sets } => check(kinds, recipes, &sets),
        Command::Graph { recipe, format } => {
            print(&draw::draw(&load(kinds, &recipe)?, format));
            Ok(exit::DONE)
        }
        Command::Table { recipe, table, format } => {
            work::table(kinds, &load(kinds, &recipe)?, &store()?, table.as_deref(), format)
        }
        Command::Report { recipe, output } => self::report::report(kinds, &recipe, &store()?, output),
        Command::Show { recipe, cell, records, path } => {
            inspect::show(&load(kinds, &recipe)?, &store()?, &cell, records, path)
        }
        Command::Ask { words, task, sets, backend, max_new_tokens, temperature, seed } => {
            if !(temperature >= 0.0 && temperature.is_finite()) {
                return Err(CliError::Asked {
                    message: format!("{temperature} is no temperature"),
                    help: Some("0 takes the likeliest token, 1 draws as the model says".to_owned()),
                });
            }
            if max_new_tokens == 0 {
                return Err(CliError::Asked {
                    message: "an answer has at least one token".to_owned(),
                    help: Some("`--max-new-tokens` is where the answer is cut".to_owned()),
                });
            }
            let (text, words) = words.split_last().expect("clap asks for two words or three");
            let (model, backend) = find_model(kinds, &store, words, true, sets, backend)?;
            let question = Ask {
                model: &model,
                text,
                task: task.as_deref(),
                backend,
                max_new_tokens,
                temperature,
                seed,
            };
            models::ask(kinds, &question)
        }
        Command::Serve { words, host, port, name, sets, backend } => {
            let (model, backend) = find_model(kinds, &store, &words, false, sets, backend)?;
            let name = match (name, &words[..]) {
                (Some(name), _) => name,
                (None, [folder]) => models::name(Path::new(folder)),
                (None, words) => words.last().expect("clap asks for a word or two").clone(),
            };
            let serve = Serve { model: &model, name: &name, host: &host, port, backend };
            models::serve(kinds, &serve, &cancellation("stopping; press Ctrl-C again to stop at once"))
        }
        Command::Export { recipe, cell, folder } => {
            models::export(&models::find(&load(kinds, &recipe)?, &store()?, &cell)?, &folder)
        }
        Command::Tensorboard { recipe, cell, folder } => {
            inspect::tensorboard(&load(kinds, &recipe)?, &store()?, &cell, &folder)
        }
        Command::Diff { run_a, run_b } => diff::diff(kinds, &store()?, &run_a, &run_b),
        Command::Runs => inspect::runs(&store()?),
        Command::Watch { run } => inspect::watch(&store()?, run.as_deref()),
        Command::Logs { run, cell, json } => inspect::logs(&store()?, run.as_deref(), cell.as_deref(), json),
        Command::Gc { dry_run, max_size } => {
            collect::gc(&Store::open(&arguments.store, Use::Exclusive)?, dry_run, &max_size)
        }
        Command::Cell { record, attempt, attended } => {
            cell::cell(kinds, &store()?, &record, &attempt, attended)
        }
        Command::Kinds { kind, json } => schema::kinds(kinds, kind.as_deref(), json),
        Command::Schema => {
            print(&format!("{:#}\n", schema::recipe(kinds)));
            Ok(exit::DONE)
        }
        Command::Backends { test } => Ok(backends(kinds, test)),
        Command::Init { folder } => init(&folder),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "retort", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(exit::DONE)
        }
    }
}

/// A number of records, or all of them.
fn records(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        text => text.parse().map_err(|_| "write a number, or `all`".to_owned()),
    }
}

/// The model that a folder, or a recipe and a cell, mean, and what to compute on; `question` is whether one comes after them.
fn find_model(
    kinds: &Kinds,
    store: &dyn Fn() -> Result<Store, CliError>,
    words: &[String],
    question: bool,
    sets: Vec<String>,
    backend: Option<String>,
) -> Result<(PathBuf, contract::Backend), CliError> {
    match words {
        [recipe, cell] => {
            let graph = load(kinds, &RecipeArguments { recipe: recipe.into(), sets, backend })?;
            Ok((models::find(&graph, &store()?, cell)?, graph.backend))
        }
        words => {
            let word = words.concat();
            if word.ends_with(".yaml") || word.ends_with(".yml") {
                let (needs, usage) = match question {
                    true => ("a cell and a question", format!("ask {word} CELL QUESTION")),
                    false => ("a cell", format!("serve {word} CELL")),
                };
                return Err(CliError::Asked {
                    message: format!("`{word}` is a recipe and needs {needs} after it"),
                    help: Some(format!("`retort {usage}`; `retort plan --all {word}` names the cells")),
                });
            }
            Ok((models::there(&word)?, models::backend(kinds, backend.as_deref())?))
        }
    }
}

fn load(kinds: &Kinds, arguments: &RecipeArguments) -> Result<Graph, CliError> {
    let (recipe, mistakes) = Recipe::read(&arguments.recipe, &arguments.sets).map_err(CliError::Recipe)?;
    Graph::build(recipe, mistakes, kinds, arguments.backend.as_deref()).map_err(CliError::Recipe)
}

fn check(kinds: &Kinds, recipes: Vec<PathBuf>, sets: &[String]) -> Result<u8, CliError> {
    let mut code = exit::DONE;
    for recipe in recipes {
        let arguments = RecipeArguments { recipe, sets: sets.to_vec(), backend: None };
        match load(kinds, &arguments) {
            Ok(graph) => print(&format!(
                "{}: {}, {}\n",
                arguments.recipe.display(),
                counted(graph.stages.len(), "stage"),
                counted(graph.cells.len(), "cell")
            )),
            Err(error) => {
                say(error.to_string().trim_end());
                code = error.code();
            }
        }
    }
    Ok(code)
}

fn backends(kinds: &Kinds, test: bool) -> u8 {
    let (mut text, mut code) = (String::new(), exit::DONE);
    for name in kinds.backends {
        let report = (kinds.backend_report)(name);
        let started = Instant::now();
        let state = match (&report.problem, test) {
            (Some((problem, help)), _) => format!("{problem}; {help}"),
            (None, false) => "usable".to_owned(),
            (None, true) => match (kinds.backend_test)(name) {
                Ok(result) => format!("usable: {result}, {:.1} s", started.elapsed().as_secs_f64()),
                Err(problem) => {
                    code = exit::FAILED;
                    format!("fails its test: {problem}")
                }
            },
        };
        text.push_str(&format!(
            "{name:6} {} {state}\n",
            if report.built { "built in " } else { "not built" }
        ));
    }
    print(&text);
    code
}

fn init(folder: &Path) -> Result<u8, CliError> {
    let path = folder.join("recipe.yaml");
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(include_str!("../recipes/quickstart.yaml").as_bytes())
    });
    match written {
        Ok(()) => {
            let argument = quoted(&path.to_string_lossy());
            say(&format!("wrote {}: now `retort run {argument}`", path.display()));
            Ok(exit::DONE)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(CliError::Asked {
            message: format!("`{}` is there already", path.display()),
            help: Some("name another folder".to_owned()),
        }),
        Err(source) => Err(CliError::Write { path, source }),
    }
}

/// Writes data to stdout. A reader that has seen enough (`| head`) ends the process quietly.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written {
        let quietly = error.kind() == std::io::ErrorKind::BrokenPipe;
        std::process::exit(i32::from(if quietly { exit::DONE } else { exit::FAILED }));
    }
}

/// Set by the first Ctrl-C, which says this; the second ends the process at once.
fn cancellation(stopping: &'static str) -> Arc<AtomicBool> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let set = ctrlc::set_handler(move || {
        watch::close();
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        say(stopping);
    });
    if let Err(error) = set {
        tracing::warn!(%error, "Ctrl-C will stop at once");
    }
    cancelled
}
