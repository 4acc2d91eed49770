//! From the command line to what is done.

use crate::answer::AnswerError;
use crate::api::server::ServeError;
use crate::app::{AppError, left_running};
use crate::aside::{self, AsideError};
use crate::ask::AskError;
use crate::bench::{Bench, BenchError, bench};
use crate::cli::{self, Args, Parsed, UsageError, commands, nearest};
use crate::connect::{ConnectError, connect, relay};
use crate::demo::{self, Demo, DemoError, demo};
use crate::dissector;
use crate::doctor::{Doctor, doctor};
use crate::logging;
use crate::models_command::{Models, ModelsError};
use crate::plan::{PlacementError, Plan, plan};
use crate::run::{Run, run};
use crate::serve::serve;
use crate::settings::{Settings, SettingsError};
use crate::signals::{INTERRUPTED, Stop};
use crate::terminal::Style;
use crate::train::{self, DataError, JobError, JobFileError, Options, Purpose};
use crate::tunnel::{self, Tunnel, TunnelError};
use exo_models::ModelError;
use exo_models::hub::HubError;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The command line.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The node.
    #[error(transparent)]
    App(#[from] AppError),
    /// The API.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The model.
    #[error("{0}")]
    Model(ModelError),
    /// What the hub has of it.
    #[error("{0}")]
    Download(Arc<HubError>),
    /// The question.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The peer at the other end of standard input.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The measurement.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Where the model would be.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The examples.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The checkpoints.
    #[error(transparent)]
    JobFile(#[from] JobFileError),
    /// The training job.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The terminal, or the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the words ask for.
#[derive(Debug)]
enum Task {
    Serve,
    Run(Run),
    Demo(Demo),
    Bench(Bench),
    Train(Purpose, Option<String>),
    Plan(Plan),
    Dissector,
    /// With the address of a node to relay to.
    Connect(Option<String>),
    Tunnel(Tunnel),
}

/// The question of the reference when none is asked.
const PROMPT: &str = "Who are you?";

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let code = program();
    if left_running() {
        let _ = io::stdout().flush();
        signal_hook::low_level::exit(code.into());
    }
    ExitCode::from(code)
}

/// Its exit code.
fn program() -> u8 {
    let words: Option<Vec<String>> = std::env::args_os()
        .skip(1)
        .map(|word| word.into_string().ok())
        .collect();
    let Some(words) = words else {
        return wrong("the command line is not UTF-8");
    };
    match cli::parse(&words) {
        Ok(Parsed::Help) => print!("{}", cli::help(Style::stdout())),
        Ok(Parsed::Version) => println!("{}", cli::version()),
        Ok(Parsed::Args(args)) => return go(&args),
        Err(error) => return wrong(error),
    }
    SUCCESS
}

fn go(args: &Args) -> u8 {
    if let Some((_, peers)) = args
        .words
        .split_first()
        .filter(|(word, _)| *word == "doctor")
    {
        return see_doctor(args, peers);
    }
    let models = args.words.split_first();
    if let Some((_, words)) = models.filter(|(word, _)| *word == "models") {
        return manage_models(args, words);
    }
    if let Some(done) = aside::perform(args) {
        return said(done);
    }
    let task = match task(args) {
        Ok(task) => task,
        Err(error) => return wrong(error),
    };
    let tells = match &task {
        Task::Tunnel(tunnel) => tunnel.run,
        task => matches!(task, Task::Serve),
    };
    logging::start(!tells);
    for flag in args.without_effect() {
        tracing::warn!("{flag} has no effect in this version");
    }
    match perform(args, task) {
        Ok(true) => SUCCESS,
        Ok(false) => INTERRUPTED,
        // Whoever read the output has read enough.
        Err(Failed::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(Failed::Settings(SettingsError::Usage(error))) => wrong(error),
        Err(error) => {
            eprintln!("{} {error}", Style::stderr().red("error:"));
            FAILURE
        }
    }
}

/// The exit code of what was printed or asked.
fn said(done: Result<bool, AsideError>) -> u8 {
    match done {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        // Whoever read the output has read enough.
        Err(AsideError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(AsideError::Usage(error)) => wrong(error),
        Err(error) => {
            eprintln!("{} {error}", Style::stderr().red("error:"));
            FAILURE
        }
    }
}

/// No node, and nothing that could be interrupted half-way.
fn see_doctor(args: &Args, peers: &[String]) -> u8 {
    let what = match Doctor::new(peers, args.json) {
        Ok(what) => what,
        Err(error) => return wrong(error),
    };
    logging::start(true);
    match doctor(args, &what) {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        // Whoever read the output has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(error) => {
            eprintln!("{} {error}", Style::stderr().red("error:"));
            FAILURE
        }
    }
}

/// No node; whatever is interrupted is gone on with the next time.
fn manage_models(args: &Args, words: &[String]) -> u8 {
    let models = match Models::new(args, words) {
        Ok(models) => models,
        Err(error) => return wrong(error),
    };
    logging::start(true);
    match models.run() {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        // Whoever read the output has read enough.
        Err(ModelsError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(error) => {
            eprintln!("{} {error}", Style::stderr().red("error:"));
            FAILURE
        }
    }
}

/// `false` when it was interrupted.
fn perform(args: &Args, task: Task) -> Result<bool, Failed> {
    let stop = Stop::on_signals(matches!(task, Task::Serve | Task::Connect(None)))?;
    let stop = if args.stop_with_stdin {
        stop.with_stdin()?
    } else {
        stop
    };
    match task {
        Task::Serve => serve(&Settings::new(args, true)?, &stop).map(|()| true),
        Task::Demo(what) => {
            for engine in what.engines.iter().flatten() {
                Settings::check_engine(*engine)?;
            }
            match demo(&what, &Settings::new(args, false)?, &stop) {
                Ok(()) => Ok(true),
                Err(DemoError::Interrupted) => Ok(false),
                Err(DemoError::Io(error)) => Err(error.into()),
                Err(error) => Err(error.into()),
            }
        }
        Task::Bench(what) => bench(&Settings::new(args, false)?, &what, &stop),
        Task::Plan(what) => plan(&Settings::new(args, false)?, &what, &stop),
        Task::Dissector => {
            io::stdout().write_all(dissector::script().as_bytes())?;
            Ok(true)
        }
        Task::Run(what) => run(&Settings::new(args, false)?, &what, &stop),
        Task::Connect(None) => connect(&Settings::to_connect(args)?, &stop).map(|()| true),
        Task::Connect(Some(address)) => relay(&address, &stop).map(|()| true),
        Task::Tunnel(what) => tunnel::tunnel(&what, &stop).map(|()| true),
        Task::Train(purpose, model) => {
            let mut settings = Settings::to_train(args)?;
            let options = Options::new(purpose, model.as_deref(), args, &mut settings)?;
            match purpose {
                Purpose::Train => train::train(&settings, &options, &stop),
                Purpose::Eval => train::eval(&settings, &options, &stop),
            }
        }
    }
}

fn task(args: &Args) -> Result<Task, UsageError> {
    let mut words = args.words.iter().map(String::as_str);
    let (command, model) = (words.next(), words.next());
    if command == Some("tunnel") {
        return Tunnel::asked(args, model, words).map(Task::Tunnel);
    }
    if let Some(flag) = tunnel::stray(args) {
        return Err(UsageError(format!("{flag} goes with tunnel")));
    }
    if args.json && command != Some("plan") {
        return Err(UsageError("--json goes with doctor, models or plan".into()));
    }
    if let Some(word) = words.next() {
        return Err(UsageError(format!(
            "unexpected word {word:?}; quote a prompt: --prompt \"…\""
        )));
    }
    let named = [model, args.model.as_deref(), args.run_model.as_deref()];
    let named = named.into_iter().flatten().next();
    let purpose = match command {
        Some("train") => Some(Purpose::Train),
        Some("eval") => Some(Purpose::Eval),
        _ => None,
    };
    if let Some(purpose) = purpose {
        return train_task(args, purpose, named);
    }
    if let Some(flag) = train::options::stray(args) {
        return Err(UsageError(format!("{flag} goes with train or eval")));
    }
    let run = || {
        Task::Run(Run {
            model: named.map(str::to_owned),
            prompt: args.prompt.clone().unwrap_or_else(|| PROMPT.to_owned()),
            max_tokens: args.max_tokens,
        })
    };
    if command == Some("plan") {
        return plan_task(args, named);
    }
    if let Some(flag) = stray_bench(args).filter(|_| command != Some("bench")) {
        return Err(UsageError(format!("{flag} goes with bench")));
    }
    if command != Some("connect") && (args.stdio || args.to.is_some()) {
        let flag = if args.stdio { "--stdio" } else { "--to" };
        return Err(UsageError(format!("{flag} goes with connect")));
    }
    match command {
        Some("connect") if !args.stdio || model.is_some() => Err(UsageError(
            "connect needs --stdio, and no more words: it is for the peer at the other end of \
             standard input and output"
                .into(),
        )),
        Some("connect") => Ok(Task::Connect(args.to.clone())),
        // The documents of the reference start nodes with a bare `run`.
        Some("run") if named.is_none() && args.prompt.is_none() => Ok(Task::Serve),
        Some("run") => Ok(run()),
        None if args.run_model.is_some() => Ok(run()),
        None => serve_task(args),
        Some("demo") => demo_task(args, named).map(Task::Demo),
        Some("bench") => bench_task(args, named),
        Some("serve") if model.is_none() => serve_task(args),
        Some("dissector") if model.is_none() => Ok(Task::Dissector),
        Some(command) => Err(UsageError(
            match nearest(command, commands().map(|(word, _)| word)) {
                Some(near) if near != command => {
                    format!("unknown command {command:?}; did you mean {near}?")
                }
                Some(_) => format!("{command} takes no model"),
                None => format!(
                    "unknown command {command:?}; commands are {}",
                    commands()
                        .map(|(word, _)| word)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            },
        )),
    }
}

fn serve_task(args: &Args) -> Result<Task, UsageError> {
    let given = [
        ("--model", args.model.is_some()),
        ("--prompt", args.prompt.is_some()),
        ("--max-tokens", args.max_tokens.is_some()),
        ("--unplug", args.unplug),
        ("--engines", args.engines.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(UsageError(format!("{flag} goes with run or demo"))),
        None => Ok(Task::Serve),
    }
}

fn train_task(args: &Args, purpose: Purpose, model: Option<&str>) -> Result<Task, UsageError> {
    let given = [
        ("--prompt", args.prompt.is_some()),
        ("--max-tokens", args.max_tokens.is_some()),
        ("--unplug", args.unplug),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(UsageError(format!("{flag} goes with run or demo"))),
        None => Ok(Task::Train(purpose, model.map(str::to_owned))),
    }
}

/// A flag that only `bench` knows, if one is given.
fn stray_bench(args: &Args) -> Option<&'static str> {
    let given = [
        ("--prompt-tokens", args.prompt_tokens.is_some()),
        ("--repeat", args.repeat.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given);
    given.next().map(|(flag, _)| flag)
}

fn bench_task(args: &Args, model: Option<&str>) -> Result<Task, UsageError> {
    let given = [
        ("--prompt", args.prompt.is_some()),
        ("--unplug", args.unplug),
        ("--engines", args.engines.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(UsageError(format!("{flag} goes with run or demo")));
    }
    let bench = Bench {
        model: model.map(str::to_owned),
        prompt_tokens: args.prompt_tokens.unwrap_or(512),
        max_tokens: args.max_tokens.unwrap_or(128),
        repeat: args.repeat.unwrap_or(5),
    };
    for (flag, value) in [
        ("--prompt-tokens", bench.prompt_tokens),
        ("--max-tokens", bench.max_tokens),
        ("--repeat", bench.repeat),
    ] {
        if value == 0 {
            return Err(UsageError(format!("{flag} must be at least 1")));
        }
    }
    Ok(Task::Bench(bench))
}

fn plan_task(args: &Args, model: Option<&str>) -> Result<Task, UsageError> {
    let given = [
        ("--prompt", args.prompt.is_some()),
        ("--unplug", args.unplug),
        ("--engines", args.engines.is_some()),
        ("--repeat", args.repeat.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(UsageError(format!("{flag} does not go with plan")));
    }
    let (prompt, answer) = (
        args.prompt_tokens.unwrap_or(512),
        args.max_tokens.unwrap_or(128),
    );
    Ok(Task::Plan(Plan {
        model: model.map(str::to_owned),
        positions: prompt.saturating_add(answer),
        json: args.json,
    }))
}

fn demo_task(args: &Args, model: Option<&str>) -> Result<Demo, UsageError> {
    if args.record.is_some() {
        return Err(UsageError(
            "--record goes with serve or run: the demo's nodes are processes of their own".into(),
        ));
    }
    if !(1..=demo::MOST_NODES).contains(&args.nodes) {
        return Err(UsageError(format!(
            "--nodes must be from 1 to {}",
            demo::MOST_NODES
        )));
    }
    if args.unplug && args.nodes < 2 {
        return Err(UsageError(
            "--unplug needs a node that is left: --nodes 2 or more".into(),
        ));
    }
    if args.engines.is_some() && args.inference_engine.is_some() {
        return Err(UsageError(
            "--engines says what --inference-engine says for all nodes: give one of them".into(),
        ));
    }
    Ok(Demo {
        nodes: args.nodes,
        engines: args.engines.clone().map(|engines| engines.0),
        unplug: args.unplug,
        model: model.unwrap_or(exo_models::embedded::ID).to_owned(),
        prompt: args
            .prompt
            .clone()
            .unwrap_or_else(|| demo::PROMPT.to_owned()),
        max_tokens: args.max_tokens,
    })
}

/// The exit code of what was done.
const SUCCESS: u8 = 0;
/// The exit code of what failed.
const FAILURE: u8 = 1;

/// Exit code 2: the user can do something about it.
fn wrong(error: impl std::fmt::Display) -> u8 {
    eprintln!(
        "{} {error} (see exo-node --help)",
        Style::stderr().red("error:")
    );
    2
}
