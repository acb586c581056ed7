//! The hub played by a thread on the loopback interface, with a tiny checkpoint behind it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use contract::{Backend, CellDirs, Event};
use lm::{LanguageModel, device};
use serde_json::json;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "a-secret-token";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lm/fixtures").join(name)
}

fn model(text: &str) -> HubModel {
    HubModel::try_from(text.to_owned()).unwrap()
}

/// Serves a folder as `tiny/model`, to callers with the token, and remembers the paths asked for.
fn serve(folder: PathBuf) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &folder, &log);
        }
    });
    (endpoint, asked)
}

fn answer(mut stream: TcpStream, folder: &Path, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    log.lock().unwrap().push(path.clone());
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        headers.iter().find_map(of)
    };
    let allowed = header("authorization") == Some(format!("Bearer {TOKEN}"));
    let (status, body, more) = if !allowed {
        ("401 Unauthorized", Vec::new(), String::new())
    } else if path == "/api/models/tiny/model/revision/main" {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let siblings: Vec<_> = names.map(|name| json!({"rfilename": name})).collect();
        ("200 OK", json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes(), String::new())
    } else if let Some(name) = path.strip_prefix(&format!("/tiny/model/resolve/{COMMIT}/")) {
        let whole = fs::read(folder.join(name)).unwrap();
        let (start, end) = header("range").unwrap()["bytes=".len()..]
            .split_once('-')
            .map(|(start, end)| {
                (start.parse().unwrap(), end.parse().map_or(whole.len(), |end: usize| end + 1))
            })
            .unwrap();
        let more = format!(
            "Content-Range: bytes {start}-{}/{}\r\nETag: \"{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
            end - 1,
            whole.len()
        );
        ("206 Partial Content", whole[start..end].to_vec(), more)
    } else {
        ("404 Not Found", Vec::new(), String::new())
    };
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that has seen enough may be gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// Asks a hub for a model; returns what came of it and the notes made.
fn ask(hub: &Hub, model: &HubModel) -> (Result<PathBuf, StageError>, Vec<String>) {
    let cancelled = AtomicBool::new(false);
    let notes = Mutex::new(Vec::new());
    let observer = |event: Event| {
        if let Event::Note { text } = event {
            notes.lock().unwrap().push(text);
        }
    };
    let dirs = CellDirs { outputs: BTreeMap::new(), scratch: PathBuf::new(), journals: PathBuf::new() };
    let context = Context::new(BTreeMap::new(), dirs, 0, Backend::default(), &cancelled, &observer);
    let result = hub.folder(model, &context);
    (result, notes.into_inner().unwrap())
}

fn hub(endpoint: &str, cache: &Path, token: Option<&str>) -> Hub {
    Hub {
        endpoint: Some(endpoint.to_owned()),
        cache: Cache::new(cache.to_owned()),
        token: token.map(str::to_owned),
    }
}

/// Nobody listens there.
fn offline() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_model_is_fetched_once_and_then_comes_from_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("tiny-qwen2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, source.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(source.path().join("pytorch_model.bin"), "never asked for").unwrap();
    let (endpoint, asked) = serve(source.path().to_owned());

    let (folder, notes) = ask(&hub(&endpoint, cache.path(), Some(TOKEN)), &model("tiny/model"));
    let folder = folder.unwrap();
    assert!(folder.ends_with(format!("models--tiny--model/snapshots/{COMMIT}")));
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("`main` of `tiny/model` can move; it is commit 0123456789"), "{notes:?}");
    let fetched = LanguageModel::load(&folder, &device::open(&Backend::default()).unwrap()).unwrap();
    assert_eq!(fetched.config.vocab_size, 290);
    let asked: Vec<String> = std::mem::take(&mut *asked.lock().unwrap());
    assert!(asked.iter().any(|path| path.ends_with("model-00002-of-00002.safetensors")), "{asked:?}");
    assert!(!asked.iter().any(|path| path.ends_with(".bin") || path.ends_with("logits.json")), "{asked:?}");

    // Neither the network nor a token from here on, by branch and by commit.
    let offline = hub(&offline(), cache.path(), None);
    assert_eq!(ask(&offline, &model("tiny/model@main")).0.unwrap(), folder);
    let (again, notes) = ask(&offline, &model(&format!("tiny/model@{COMMIT}")));
    assert_eq!((again.unwrap(), notes), (folder.clone(), Vec::new()));
    // A copy that lacks a shard is none.
    fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(ask(&offline, &model("tiny/model")).0.is_err());
}

#[test]
fn a_repository_with_one_gguf_file_is_a_model() {
    let (cache, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::copy(fixture("tiny-llama3.gguf"), source.path().join("tiny.gguf")).unwrap();
    fs::write(source.path().join("README.md"), "").unwrap();
    let (endpoint, _) = serve(source.path().to_owned());
    let hub = hub(&endpoint, cache.path(), Some(TOKEN));
    let folder = ask(&hub, &model("tiny/model")).0.unwrap();
    assert!(LanguageModel::load(&folder, &device::open(&Backend::default()).unwrap()).is_ok());

    // With two it would be a guess.
    fs::copy(fixture("tiny-qwen2.gguf"), source.path().join("other.gguf")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let error = ask(&Hub { cache: Cache::new(elsewhere.path().to_owned()), ..hub }, &model("tiny/model")).0;
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        "`tiny/model@main` holds neither `config.json` with safetensors nor exactly one `.gguf` file"
    );
}

#[test]
fn what_cannot_be_fetched_says_what_to_do_and_keeps_the_token() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, _) = serve(fixture("tiny-qwen2"));
    for hub in [hub(&endpoint, cache.path(), Some("wrong-token")), hub(&offline(), cache.path(), Some(TOKEN))]
    {
        let error = ask(&hub, &model("tiny/model@v1")).0.unwrap_err();
        let help = error.help().unwrap().to_owned();
        assert!(help.contains("hf download tiny/model --revision v1 --local-dir DIR"), "{help}");
        assert!(help.contains("HF_TOKEN"), "{help}");
        let told = format!("{error:?} {error} {help}");
        assert!(told.contains("cannot fetch `the list of files` of `tiny/model@v1`"), "{told}");
        assert!(!told.contains(TOKEN) && !told.contains("wrong-token"), "{told}");
    }
}

#[test]
fn names_are_checked_when_the_recipe_is() {
    let shown = |text: &str| HubModel::try_from(text.to_owned()).map(String::from);
    assert_eq!(shown("HuggingFaceTB/SmolLM2-135M").unwrap(), "HuggingFaceTB/SmolLM2-135M@main");
    assert_eq!(shown("a/b@refs/pr/1").unwrap(), "a/b@refs/pr/1");
    for wrong in ["", "model", "a/b/c", "a/..", "../b", "a/b@", "a/b@../x", "a/b@x y", "https://x/y/z"] {
        let error = shown(wrong).unwrap_err();
        assert!(error.contains("write `owner/name@revision`"), "{wrong}: {error}");
    }
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join(INDEX);
    for (file, right) in [("a.safetensors", true), ("../a.safetensors", false), ("a.bin", false)] {
        fs::write(&index, json!({"weight_map": {"w": file, "v": file}}).to_string()).unwrap();
        let found = shards(&index, &model("a/b"));
        assert_eq!(found.is_ok(), right, "{file}: {found:?}");
    }
}
