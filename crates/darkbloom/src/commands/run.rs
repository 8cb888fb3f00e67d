//! `darkbloom run`: one question.

use super::{ask, up::unless};
use crate::{cli::RunArguments, failure::Failure, home::Home, report, shutdown};
use protocol::{limits, task::Finish};
use std::{io::Read, process::ExitCode};

pub async fn run(home: &Home, arguments: RunArguments) -> Result<ExitCode, Failure> {
    let stop = shutdown::on_signal()?;
    let prompt = if arguments.prompt == "-" { read_standard_input()? } else { arguments.prompt };
    let mut messages = Vec::new();
    if let Some(system) = &arguments.ask.system {
        messages.push(ask::message("system", system));
    }
    messages.push(ask::message("user", prompt));
    let task = ask::task(&arguments.ask, messages);
    let asked = unless(&stop, async {
        let client = ask::connect(home, &arguments.ask).await?;
        let mut answer = client.ask(&arguments.ask.model, task).await?;
        let whole = ask::read(&mut answer, |text| {
            if !arguments.json {
                ask::print(text);
            }
        })
        .await?;
        if arguments.json {
            let report = report::Answer {
                text: whole.text,
                model: answer.model().to_owned(),
                node: answer.node().to_string(),
                task: answer.task().to_string(),
                finish_reason: match whole.finish {
                    Finish::Stop => "stop",
                    Finish::Length => "length",
                }
                .to_owned(),
                prompt_tokens: whole.usage.prompt_tokens,
                completion_tokens: whole.usage.completion_tokens,
            };
            println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
        } else {
            println!();
        }
        client.close().await;
        Ok(())
    });
    match asked.await? {
        Some(()) => Ok(ExitCode::SUCCESS),
        // Interrupted: dropping the answer has cancelled it at its worker.
        None => Ok(ExitCode::from(130)),
    }
}

fn read_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(limits::TASK_BYTES_MAX).expect("a limit fits");
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("cannot read the prompt from standard input: {error}")))?;
    Ok(text)
}
