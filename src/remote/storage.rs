//! Objects in a folder or a bucket, through `object_store`: the only module that speaks to a network for the cache.
//!
//! Calls block; whoever wants several at once calls from several threads. Endpoint, region and credentials come from the
//! environment, as each cloud's own tools read it, and their values are taken out of every message.

use std::{future::Future, sync::Arc, time::Duration};

use contract::Secret;
use object_store::{
    ClientConfigKey, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use tokio::runtime::{Builder, Runtime};

use super::{
    Objects, Put, StorageError,
    place::{Cloud, Place},
};
use crate::{log::describe, secrets};

/// A request may take this long in all; one that cannot connect ends sooner.
const TIMEOUT: &str = "300 seconds";
/// How often a request is tried again, and for how long.
const RETRIES: (usize, Duration) = (4, Duration::from_secs(60));

pub(super) struct Storage {
    runtime: Runtime,
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    secrets: Vec<Secret>,
}

impl Storage {
    pub(super) fn open(place: &Place) -> Result<Self, StorageError> {
        let secrets = secrets::of_storage();
        let failed = |error: Error| StorageError(redacted(&secrets, &error));
        // Another part of the program may have installed it before.
        rustls::crypto::ring::default_provider().install_default().ok();
        let (max_retries, retry_timeout) = RETRIES;
        let retry = RetryConfig { max_retries, retry_timeout, ..RetryConfig::default() };
        let timeout = ClientConfigKey::Timeout;
        let (objects, prefix): (Arc<dyn ObjectStore>, &str) = match place {
            Place::Folder(path) => {
                // Its parent must be there: where a disk is not mounted, nothing is to be made in its place.
                if let Err(error) = std::fs::create_dir(path)
                    && error.kind() != std::io::ErrorKind::AlreadyExists
                {
                    return Err(StorageError(error.to_string()));
                }
                let folder = LocalFileSystem::new_with_prefix(path).map_err(failed)?;
                (Arc::new(folder.with_fsync(true)), "")
            }
            Place::Bucket { cloud: Cloud::S3, url, prefix } => {
                let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry);
                let builder = builder.with_config(AmazonS3ConfigKey::Client(timeout), TIMEOUT);
                (Arc::new(builder.build().map_err(failed)?), prefix)
            }
            Place::Bucket { cloud: Cloud::Google, url, prefix } => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry);
                let builder = builder.with_config(GoogleConfigKey::Client(timeout), TIMEOUT);
                (Arc::new(builder.build().map_err(failed)?), prefix)
            }
            Place::Bucket { cloud: Cloud::Azure, url, prefix } => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry);
                let builder = builder.with_config(AzureConfigKey::Client(timeout), TIMEOUT);
                (Arc::new(builder.build().map_err(failed)?), prefix)
            }
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| StorageError(error.to_string()))?;
        let prefix = prefix.to_owned();
        Ok(Self { runtime, objects, prefix, secrets })
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        Ok(Path::parse(format!("{}/{key}", self.prefix))?)
    }

    /// Waits for an answer; that something is not there is one.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, StorageError> {
        match self.runtime.block_on(answer) {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(StorageError(redacted(&self.secrets, &error))),
        }
    }

    async fn write(&self, key: &str, payload: PutPayload, mode: PutMode) -> Result<Put, Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.objects.put_opts(&self.path(key)?, payload, options).await {
            Ok(_) => Ok(Put::Written),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::There),
            Err(error) => Err(error),
        }
    }
}

impl Objects for Storage {
    fn size(&self, key: &str) -> Result<Option<u64>, StorageError> {
        self.wait(async { Ok(self.objects.head(&self.path(key)?).await?.size) })
    }

    fn get(&self, key: &str, most: u64) -> Result<Option<Result<Vec<u8>, u64>>, StorageError> {
        self.wait(async {
            let found = self.objects.get(&self.path(key)?).await?;
            if found.meta.size > most {
                return Ok(Err(found.meta.size));
            }
            Ok(Ok(found.bytes().await?.into()))
        })
    }

    fn put(&self, key: &str, bytes: Vec<u8>, over: bool) -> Result<Put, StorageError> {
        let payload = PutPayload::from(bytes);
        let put = self.wait(async {
            if over {
                return self.write(key, payload, PutMode::Overwrite).await;
            }
            match self.write(key, payload.clone(), PutMode::Create).await {
                // The library does not try a conditional write again. Where it did arrive, the second finds it.
                Err(Error::Generic { .. }) => self.write(key, payload, PutMode::Create).await,
                // Storage without conditional writes: equal keys have equal content, or one of two whole records stands.
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    self.write(key, payload, PutMode::Overwrite).await
                }
                put => put,
            }
        })?;
        put.ok_or_else(|| StorageError("there is no such bucket".to_owned()))
    }
}

/// A longer message is cut: a server may answer with a page.
const LONGEST: usize = 600;

/// An error with its causes in one line, without the values of any credential. What a server says is part of it, so nothing
/// of it may move a terminal's cursor.
fn redacted(secrets: &[Secret], error: &Error) -> String {
    let text = secrets.iter().fold(describe(error), |text, secret| secret.redact(&text).into_owned());
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}
