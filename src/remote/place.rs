//! Where a remote cache is, and what may be done with it, as people write it.

use std::path::{Path, PathBuf};

/// Where a remote cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder, of this machine or of a shared file system.
    Folder(PathBuf),
    /// A part of a bucket or container.
    Bucket {
        /// Whose storage it is.
        cloud: Cloud,
        /// The bucket with its scheme, as written: `s3://bucket`.
        url: String,
        /// What keys begin with; may be empty.
        prefix: String,
    },
}

/// A protocol of object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// S3, Amazon's or any server that speaks it.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// What a run does with a remote cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Access {
    /// Takes results from it and sends those it computes.
    #[default]
    ReadWrite,
    /// Takes results from it.
    Read,
    /// Sends the results it computes.
    Write,
}

impl Access {
    /// The names people write, in the order of the variants.
    pub const NAMES: [&str; 3] = ["read-write", "read", "write"];

    /// The access of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::ReadWrite, Self::Read, Self::Write];
        all.into_iter().zip(Self::NAMES).find(|(_, known)| *known == name).map(|(access, _)| access)
    }
}

/// Why a text names no remote cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It is empty.
    #[error("it names nothing")]
    Empty,
    /// The scheme is none we know.
    #[error("`{0}://` is no storage this program speaks to")]
    Scheme(String),
    /// A user, a password or a signature stands in it.
    #[error("it holds credentials or options")]
    Credentials,
    /// No bucket, or no absolute path after `file://`.
    #[error("it names no bucket or folder")]
    NoBucket,
}

impl PlaceError {
    /// The remedy.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Credentials => {
                "credentials, endpoint and region come from the environment, such as `AWS_ACCESS_KEY_ID`"
            }
            Self::Empty | Self::Scheme(_) | Self::NoBucket => {
                "write `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder` or a folder"
            }
        }
    }
}

impl Place {
    /// Reads a URL or the path of a folder; a relative path starts from `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, PlaceError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.trim().is_empty() {
                Err(PlaceError::Empty)
            } else {
                Ok(Self::Folder(folder.join(text)))
            };
        };
        let cloud = match scheme {
            "file" if rest.starts_with('/') => return Ok(Self::Folder(rest.into())),
            "file" => return Err(PlaceError::NoBucket),
            "s3" | "s3a" => Cloud::S3,
            "gs" => Cloud::Google,
            "az" | "azure" | "abfs" | "abfss" => Cloud::Azure,
            _ => return Err(PlaceError::Scheme(scheme.to_owned())),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // Azure writes `container@account`; nobody writes a password there by right.
        let user =
            bucket.split_once('@').is_some_and(|(user, _)| cloud != Cloud::Azure || user.contains(':'));
        if user || rest.contains(['?', '#']) {
            return Err(PlaceError::Credentials);
        }
        if bucket.is_empty() {
            return Err(PlaceError::NoBucket);
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self::Bucket { cloud, url: format!("{scheme}://{bucket}"), prefix })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(formatter),
            Self::Bucket { url, prefix, .. } if prefix.is_empty() => formatter.write_str(url),
            Self::Bucket { url, prefix, .. } => write!(formatter, "{url}/{prefix}"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown_as_written() {
        let here = Path::new("recipes");
        let folder = |path: &str| Place::Folder(path.into());
        assert_eq!(Place::parse("cache", here), Ok(folder("recipes/cache")));
        assert_eq!(Place::parse("/mnt/cache", here), Ok(folder("/mnt/cache")));
        assert_eq!(Place::parse("file:///mnt/a b", here), Ok(folder("/mnt/a b")));
        for (text, cloud, prefix) in [
            ("s3://lab", Cloud::S3, ""),
            ("gs://lab/a/b", Cloud::Google, "a/b"),
            ("abfss://box@lab.dfs.core.windows.net/a", Cloud::Azure, "a"),
        ] {
            let place = Place::parse(text, here).unwrap();
            assert_eq!(place.to_string(), text);
            assert!(matches!(place, Place::Bucket { cloud: c, prefix: p, .. } if c == cloud && p == prefix));
        }
    }

    #[test]
    fn credentials_and_what_is_no_place_are_refused() {
        let cases = [
            ("s3://AKIA:secret@lab/a", PlaceError::Credentials),
            ("s3://AKIA@lab", PlaceError::Credentials),
            ("az://box/a?sig=abc", PlaceError::Credentials),
            ("abfss://a:b@lab.dfs.core.windows.net", PlaceError::Credentials),
            ("ftp://lab/a", PlaceError::Scheme("ftp".to_owned())),
            ("s3:///a", PlaceError::NoBucket),
            ("file://a", PlaceError::NoBucket),
            (" ", PlaceError::Empty),
        ];
        for (text, error) in cases {
            assert_eq!(Place::parse(text, Path::new("")), Err(error), "{text}");
        }
    }

    #[test]
    fn accesses_are_named_alike_everywhere() {
        use clap::ValueEnum;
        for (name, access) in Access::NAMES.into_iter().zip(Access::value_variants()) {
            assert_eq!(Access::parse(name), Some(*access));
            assert_eq!(access.to_possible_value().unwrap().get_name(), name);
        }
    }
}
