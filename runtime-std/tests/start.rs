//! What a runtime says that cannot start, and one that has stopped.

use exo_protocol::engine::{Engine, EngineCommand, EngineEvent};
use exo_protocol::topology::Capabilities;
use exo_protocol::{Command, Config};
use exo_runtime_std::{CommandError, Options, Runtime, StartError, start};

struct Idle;

impl Engine for Idle {
    fn execute(
        &mut self,
        command: EngineCommand,
        _progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        EngineEvent::Freed {
            call: command.call(),
        }
    }
}

fn run(
    listen: &str,
    engine: fn() -> Result<Box<dyn Engine>, String>,
) -> Result<Runtime, StartError> {
    let config = Config::new("node".into(), Capabilities::unknown());
    let options = Options {
        listen: Some(listen.into()),
        ..Options::default()
    };
    start(config, 1, options, engine, |_| {})
}

fn idle() -> Result<Box<dyn Engine>, String> {
    Ok(Box::new(Idle))
}

#[test]
fn a_port_in_use_is_named_with_advice() {
    let first = run("127.0.0.1:0", idle).expect("a free port");
    let address = first.local_addr().expect("it listens").to_string();
    let error = run(&address, idle).expect_err("the port is taken");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {address}: Address already in use (is another node running? choose \
             --node-port)"
        )
    );
    first.shutdown();
    run(&address, idle)
        .expect("the port is free again")
        .shutdown();
}

#[test]
fn an_address_that_is_none_is_named() {
    let error = run("nonsense", idle).expect_err("no address");
    assert!(
        error.to_string().starts_with("cannot listen on nonsense: "),
        "{error}"
    );
}

#[test]
fn an_engine_that_cannot_be_built_is_told_and_frees_the_port() {
    let error = run("127.0.0.1:0", || Err("no such model".into())).expect_err("no engine");
    assert_eq!(
        error.to_string(),
        "the engine does not start: no such model"
    );
    let error = run("127.0.0.1:0", || panic!("on purpose")).expect_err("no engine");
    assert_eq!(
        error.to_string(),
        "the engine does not start: it panicked: on purpose"
    );
}

#[test]
fn a_stopped_runtime_refuses_commands() {
    let runtime = run("127.0.0.1:0", idle).expect("a free port");
    let handle = runtime.handle();
    assert_eq!(handle.command(Command::Stop), Ok(()));
    assert!(handle.status().stopping);
    runtime.shutdown();
    assert_eq!(handle.command(Command::Stop), Err(CommandError::Stopped));
    assert!(handle.status().stopping, "the last status stays");
}
