//! `darkbloom pool`: founds a pool whose committee are several machines.

use super::{audit, daemon};
use crate::{
    cli::{CreateArguments, PoolCommand, SeatArguments},
    failure::Failure,
    home::{Home, KeyRole},
};
use orchestrator::Orchestrator;
use protocol::{
    founding::{Founding, Seat},
    genesis::Genesis,
    ids::AccountId,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};
use zeroize::Zeroizing;

/// No founding line is longer.
const FILE_BYTES_MAX: u64 = 16 << 10;

pub async fn run(home: &Home, command: PoolCommand) -> Result<ExitCode, Failure> {
    match command {
        PoolCommand::Seat(arguments) => seat(home, &arguments).await,
        PoolCommand::Create(arguments) => create(home, &arguments),
        PoolCommand::AuditExport(arguments) => audit::export(home, &arguments).await,
        PoolCommand::VerifyExport(arguments) => audit::verify(&arguments),
    }
}

/// Prints where this home's orchestrator will listen.
async fn seat(home: &Home, arguments: &SeatArguments) -> Result<ExitCode, Failure> {
    let _lock = home.lock("pool seat")?;
    let seat = Orchestrator::seat(daemon::orchestrator(home, &arguments.network)?).await.map_err(Failure::new)?;
    println!("{seat}");
    Ok(ExitCode::SUCCESS)
}

/// Writes the line with which each of the committee starts, and prints the ticket for everybody else.
fn create(home: &Home, arguments: &CreateArguments) -> Result<ExitCode, Failure> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| Failure::new(format!("no random numbers: {error}")))?;
    let orchestrators: Vec<_> = arguments.members.iter().map(|Seat(address)| address.clone()).collect();
    let ids = orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
    let created = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let owner = AccountId::from(home.key(KeyRole::Account)?.id());
    let genesis = Genesis { owner, ..Genesis::new(ids, &secret, created) };
    let pool = genesis.pool().map_err(|error| {
        Failure::new(error).hint("give one seat of each machine: `darkbloom pool seat` prints it there")
    })?;
    let founding = Founding { genesis, orchestrators, secret: *secret };
    write(&arguments.out, &founding)?;
    let count = founding.orchestrators.len();
    let faults = (count - 1) / 3;
    println!("pool {pool}, owned by account {owner}");
    println!("ticket: {}", founding.ticket());
    eprintln!(
        "each of its {count} orchestrators starts with `darkbloom orchestrate --founding {}`",
        arguments.out.display()
    );
    match faults {
        0 => eprintln!("it works only while all of them do; with 4 orchestrators one may fail, with 7 two"),
        faults => eprintln!("it works while at most {faults} of them fail or lie"),
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, founding: &Founding) -> Result<(), Failure> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{founding}\n").as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        let failure = Failure::new(format!("cannot write {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.hint("choose another file; that one may be of another pool"),
            _ => failure,
        }
    })
}

/// Reads what [`create`] wrote.
pub fn read(path: &Path) -> Result<Founding, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    if fs::metadata(path).map_err(|error| fail(&error))?.len() > FILE_BYTES_MAX {
        return Err(fail(&"no file that `darkbloom pool create` wrote"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| fail(&error))?;
    text.parse().map_err(|error| fail(&error))
}
