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
    /// Access key and secret key.
    keys: (String, String),
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
        Self { url, folder: Some(folder), ..Self::at(String::new()) }
    }

    /// A folder on a disk that is not there.
    pub(crate) fn gone() -> Self {
        Self { url: "/nowhere/at all".to_owned(), ..Self::folder() }
    }

    /// An S3 server's address, whether or not there is one.
    pub(crate) fn at(address: String) -> Self {
        let keys = ("AKIAIOSFODNN7EXAMPLE".to_owned(), SECRET.to_owned());
        Self { url: "s3://retort/some/prefix".to_owned(), address, folder: None, server: None, keys }
    }

    /// A bucket of a real S3 server, empty; nothing where there is none.
    pub(crate) fn s3() -> Option<Self> {
        if let Ok(endpoint) = std::env::var("RETORT_TEST_S3_ENDPOINT") {
            let mut site = Self::at(endpoint.trim_start_matches("http://").to_owned());
            let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            site.url = format!("s3://retort/test-{}", moment.as_nanos());
            return Some(site);
        }
        let site = Self::moto(None)?;
        site.ask("s3", "PUT", "/retort", &[]);
        Some(site)
    }

    /// A bucket of a server that checks signatures, and the keys of its one user.
    pub(crate) fn strict() -> Option<Self> {
        let mut site = Self::moto(Some(4))?;
        let act = |action: &str| {
            let body = format!("Action={action}&UserName=somebody&Version=2010-05-08");
            String::from_utf8(site.ask("iam", "POST", "/", body.as_bytes())).unwrap()
        };
        let policy =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let policy: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
        act("CreateUser");
        act(&format!("PutUserPolicy&PolicyName=all&PolicyDocument={policy}"));
        let made = act("CreateAccessKey");
        site.ask("s3", "PUT", "/retort", &[]);
        let field = |name: &str| {
            let rest = made.split_once(&format!("<{name}>")).unwrap().1;
            rest.split('<').next().unwrap().to_owned()
        };
        site.keys = (field("AccessKeyId"), field("SecretAccessKey"));
        Some(site)
    }

    /// The same bucket, with a secret key that is not the user's.
    pub(crate) fn with_a_wrong_key(&self) -> Self {
        let (url, address) = (self.url.clone(), self.address.clone());
        let keys = (self.keys.0.clone(), SECRET.to_owned());
        Self { url, address, folder: None, server: self.server.clone(), keys }
    }

    /// A server of moto's, which checks signatures after so many requests, or never.
    fn moto(strict_after: Option<usize>) -> Option<Self> {
        let Some(moto) = std::env::var_os("RETORT_TEST_S3") else {
            eprintln!("skipped: RETORT_TEST_S3 does not name moto's command `moto_server`");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(moto);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        if let Some(requests) = strict_after {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", requests.to_string());
        }
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut site = Self::at(format!("127.0.0.1:{port}"));
        site.server = Some(Arc::new(Server(server)));
        let started = Instant::now();
        while TcpStream::connect(&site.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
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
        if std::env::var_os("RETORT_TEST_S3_ENDPOINT").is_none() || self.server.is_some() {
            command.env("AWS_ACCESS_KEY_ID", &self.keys.0).env("AWS_SECRET_ACCESS_KEY", &self.keys.1);
            command.env("AWS_REGION", "us-east-1");
        }
        command
    }

    pub(crate) fn run(&self, project: &Project, arguments: &[&str]) -> Finished {
        Finished::of(&mut self.command(project, arguments))
    }

    /// An object's bytes, asked for without retort.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        self.ask("s3", "GET", &self.key(key), &[])
    }

    /// Writes an object behind retort's back.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.ask("s3", "PUT", &self.key(key), bytes);
    }

    fn key(&self, key: &str) -> String {
        format!("/{}/{key}", self.url.strip_prefix("s3://").unwrap())
    }

    fn ask(&self, service: &str, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let user = format!("AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/{service}/aws4_request");
        let form = if service == "s3" { "octet-stream" } else { "x-www-form-urlencoded" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             Content-Type: application/{form}\r\n\
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
