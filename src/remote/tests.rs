use std::{
    sync::{Arc, mpsc},
    thread,
};

use serde_json::json;

use super::*;
use crate::{executor::Message, fingerprint::FingerprintRecord, store::Use};

/// Storage in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Objects for Memory {
    fn size(&self, key: &str) -> Result<Option<u64>, StorageError> {
        Ok(self.0.lock().unwrap().get(key).map(|bytes| bytes.len() as u64))
    }

    fn get(&self, key: &str, most: u64) -> Result<Option<Result<Vec<u8>, u64>>, StorageError> {
        let all = self.0.lock().unwrap();
        let sized = |bytes: &Vec<u8>| match bytes.len() as u64 {
            size if size > most => Err(size),
            _ => Ok(bytes.clone()),
        };
        Ok(all.get(key).map(sized))
    }

    fn put(&self, key: &str, bytes: Vec<u8>, over: bool) -> Result<Put, StorageError> {
        let mut all = self.0.lock().unwrap();
        if all.contains_key(key) && !over {
            return Ok(Put::There);
        }
        all.insert(key.to_owned(), bytes);
        Ok(Put::Written)
    }
}

/// Storage that falls over.
struct Broken;

impl Objects for Broken {
    fn size(&self, _: &str) -> Result<Option<u64>, StorageError> {
        panic!("odd answer")
    }

    fn get(&self, _: &str, _: u64) -> Result<Option<Result<Vec<u8>, u64>>, StorageError> {
        panic!("odd answer")
    }

    fn put(&self, _: &str, _: Vec<u8>, _: bool) -> Result<Put, StorageError> {
        panic!("odd answer")
    }
}

fn cell() -> (Fingerprint, FingerprintRecord) {
    let record = json!({"format": 1, "kind": "text", "version": 1, "params": {}, "inputs": {}});
    let record: FingerprintRecord = serde_json::from_value(record).unwrap();
    (record.fingerprint(), record)
}

/// A store, in which the cell has made this text.
fn store(folder: &Path, text: Option<&str>) -> (Store, Option<CellRecord>) {
    let store = Store::open(folder, Use::Shared).unwrap();
    let made = text.map(|text| {
        let (fingerprint, record) = cell();
        let dirs = store.prepare(&fingerprint, ["text"].into_iter()).unwrap();
        fs::write(dirs.outputs["text"].join("text.txt"), text).unwrap();
        store.commit(&fingerprint, record, &dirs, "run", 0.1).unwrap()
    });
    (store, made)
}

#[test]
fn a_full_disk_says_nothing_against_a_result_and_what_has_arrived_needs_no_room() {
    let (folder, running) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (memory, (fingerprint, _)) = (Memory::default(), cell());
    let remote = |room| {
        let mut remote =
            Remote::with(Box::new(memory.clone()), "memory".to_owned(), Access::ReadWrite).unwrap();
        remote.room = room;
        remote
    };
    // Larger than a block of the disk, so that holes can be told from content.
    let text = "there ".repeat(10_000);
    let (first, made) = store(&folder.path().join("first"), Some(&text));
    let sent = remote(room).send(&first, &fingerprint, &made.unwrap(), false, &running).unwrap();
    assert_eq!(sent, Sent::New);
    let there = memory.0.lock().unwrap().clone();

    let (second, _) = store(&folder.path().join("second"), None);
    let full = remote(|_| Ok(4096));
    let refused = full.fetch(&second, &fingerprint, &["text"], &running).unwrap_err();
    assert!(matches!(refused, RemoteError::Room { needed: 60_000, room: 4096 }), "{refused}");
    // Computed here instead, it stays here.
    let (second, made) = store(&folder.path().join("second"), Some("another"));
    assert_eq!(full.send(&second, &fingerprint, &made.unwrap(), false, &running).unwrap(), Sent::Other);
    assert_eq!(*memory.0.lock().unwrap(), there);

    let (third, _) = store(&folder.path().join("third"), None);
    let port = third.incoming(&fingerprint).join("text");
    fs::create_dir_all(&port).unwrap();
    // Laid out and still to come, it needs room.
    lay_out(&port.join("text.txt"), 60_000).unwrap();
    let refused = full.fetch(&third, &fingerprint, &["text"], &running).unwrap_err();
    assert!(matches!(refused, RemoteError::Room { needed: 60_000, .. }), "{refused}");
    fs::write(port.join("text.txt"), &text).unwrap();
    File::open(port.join("text.txt")).unwrap().sync_all().unwrap();
    assert!(full.fetch(&third, &fingerprint, &["text"], &running).unwrap().is_some());
}

#[test]
fn a_panic_over_a_remote_is_an_answer() {
    let (folder, running) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (store, made) = store(folder.path(), Some("text"));
    let remote = Remote::with(Box::new(Broken), "broken".to_owned(), Access::ReadWrite).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let courier = Courier::start(scope, &remote, &store, &running, &sender);
        let other = Fingerprint(Digest::of_bytes(b"another"));
        courier.take(Errand::Fetch { cell: 0, fingerprint: other, ports: vec!["text"] });
        courier.take(Errand::Send { cell: 1, fingerprint: cell().0, record: Box::new(made.unwrap()) });
        for _ in 0..2 {
            let error = match receiver.recv_timeout(Duration::from_secs(60)).unwrap() {
                Message::Fetched(0, result) => result.unwrap_err(),
                Message::Sent(1, result) => result.unwrap_err(),
                _ => panic!("another answer"),
            };
            assert!(matches!(&error, RemoteError::Bug { message } if message == "odd answer"), "{error}");
        }
    });
}
