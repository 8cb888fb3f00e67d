//! `darkbloom chat`: a conversation, line by line. Ctrl-C stops an answer; end of input, or Ctrl-C at the prompt, ends it.

use super::ask;
use crate::{cli::ChatArguments, failure::Failure, home::Home};
use client::Pools;
use protocol::task::Message;
use std::{
    io::{BufRead, IsTerminal},
    process::ExitCode,
};
use tokio::sync::mpsc;

pub async fn run(home: &Home, arguments: ChatArguments) -> Result<ExitCode, Failure> {
    let client = ask::connect(home, &arguments.ask).await?;
    let mut conversation: Vec<Message> = Vec::new();
    if let Some(system) = &arguments.ask.system {
        conversation.push(ask::message("system", system));
    }
    let terminal = std::io::stdin().is_terminal();
    let mut lines = lines();
    loop {
        if terminal {
            eprint!("> ");
        }
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { break };
        if line.trim().is_empty() {
            continue;
        }
        conversation.push(ask::message("user", line));
        let said = tokio::select! {
            said = answer(&client, &arguments, &conversation) => said,
            _ = tokio::signal::ctrl_c() => Ok(None),
        };
        println!();
        match said {
            Ok(Some(text)) => conversation.push(ask::message("assistant", text)),
            // What was not answered is not part of the conversation.
            Ok(None) => drop(conversation.pop()),
            Err(failure) => {
                failure.print();
                conversation.pop();
                if !terminal {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    client.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn answer(
    client: &Pools,
    arguments: &ChatArguments,
    conversation: &[Message],
) -> Result<Option<String>, Failure> {
    let task = ask::task(&arguments.ask, conversation.to_vec());
    let mut answer = client.ask(&arguments.ask.model, task).await?;
    Ok(Some(ask::read(&mut answer, ask::print).await?.text))
}

/// Lines of standard input. Reading blocks, so a thread of its own does it.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
