//! A place where results are shared: a folder, or a bucket of an S3 server.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::project::{Finished, Project};

/// The secret key that every command is given, and nothing may show.
pub(crate) const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLE";

/// A remote cache and what commands need in their environment to use it.
pub(crate) struct Site {
    url: String,
    address: String,
    folder: Option<TempDir>,
    server: Option<Arc<Server>>,
}

/// moto, ended with the last site that uses it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Site {
    /// A folder.
    pub(crate) fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("shared results").display().to_string();
        Self { url, address: String::new(), folder: Some(folder), server: None }
    }

    /// A folder on a disk that is not there.
    pub(crate) fn gone() -> Self {
        Self { url: "/nowhere/at all".to_owned(), ..Self::folder() }
    }

    /// An S3 server's address, whether or not there is one.
    pub(crate) fn at(address: String) -> Self {
        Self { url: "s3://retort/some/prefix".to_owned(), address, folder: None, server: None }
    }

    /// A bucket of a real S3 server, empty; nothing where there is none.
    pub(crate) fn s3() -> Option<Self> {
        if let Ok(endpoint) = std::env::var("RETORT_TEST_S3_ENDPOINT") {
            let mut site = Self::at(endpoint.trim_start_matches("http://").to_owned());
            let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            site.url = format!("s3://retort/test-{}", moment.as_nanos());
            return Some(site);
        }
        let Some(moto) = std::env::var_os("RETORT_TEST_S3") else {
            eprintln!("skipped: RETORT_TEST_S3 does not name moto's command `motoserver`");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut site = Self::at(format!("127.0.0.1:{port}"));
        site.server = Some(Arc::new(Server(server)));
        let started = Instant::now();
        while TcpStream::connect(&site.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        site.ask("PUT", "/retort", &[]);
        Some(site)
    }

    /// Whether it lets anybody write, whatever the signature says.
    pub(crate) fn believes_signatures(&self) -> bool {
        self.server.is_some()
    }

    /// The same bucket by way of another address.
    pub(crate) fn through(mut self, address: &str) -> Self {
        self.address = address.to_owned();
        self
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What to call it in figures.
    pub(crate) fn name(&self) -> &str {
        if self.folder.is_some() { "folder" } else { "S3" }
    }

    /// The folder, of a site that is one.
    pub(crate) fn path(&self) -> PathBuf {
        assert!(self.folder.is_some());
        Path::new(&self.url).to_owned()
    }

    /// A command that shares through this site; its output is kept.
    pub(crate) fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut command = project.command(arguments);
        command.env("RETORT_REMOTE", &self.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.folder.is_none() {
            command.env("AWS_ENDPOINT_URL", format!("http://{}", self.address)).env("AWS_ALLOW_HTTP", "true");
        }
        // A server with users of its own knows whom it lets in.
        if std::env::var_os("RETORT_TEST_S3_ENDPOINT").is_none() || self.folder.is_some() {
            command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
            command.env("AWS_REGION", "us-east-1");
        }
        command
    }

    pub(crate) fn run(&self, project: &Project, arguments: &[&str]) -> Finished {
        Finished::of(&mut self.command(project, arguments))
    }

    /// An object's bytes, asked for without retort.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        self.ask("GET", &self.key(key), &[])
    }

    /// Writes an object behind retort's back.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.ask("PUT", &self.key(key), bytes);
    }

    fn key(&self, key: &str) -> String {
        format!("/{}/{key}", self.url.strip_prefix("s3://").unwrap())
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let user = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/octet-stream\r\n\
             Authorization: {user}, SignedHeaders=host, Signature=0\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        answer.split_off(end + 4)
    }
}
