//! Roles at rest: one record per role, with its inline policies and what is attached to it.
//!
//! IAM is global: a key carries the account and no region. Names differ by more than case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flint_base::Timestamp;
use flint_model::AccountId;
use flint_store::{Batch, CommitError, Direction, Key, KeyRange, Keyspace, Row, Store, record};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Key: account, name in lower case. Value: [`Role`].
const ROLES: Keyspace = Keyspace::new("iam-roles");

const LAYOUT: u8 = 1;

/// The largest record, in bytes; the store takes a little more. Reached only by policies that are mostly blanks.
const RECORD_BYTES: usize = 60 << 10;

/// How often a change is tried again when another one came first.
const TRIES: usize = 8;

/// Roles on one page at most, whatever is asked.
pub(crate) const PAGE: usize = 1000;

/// A role. The record's own form: what is written here is read for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub account: AccountId,
    pub name: String,
    /// `/`, or text between slashes.
    pub path: String,
    /// `AROA..`
    pub id: String,
    pub created_ms: i64,
    pub trust: String,
    pub description: Option<String>,
    pub max_session_s: u32,
    pub tags: BTreeMap<String, String>,
    /// The ARNs of managed policies.
    pub attached: BTreeSet<String>,
    /// Documents by name.
    pub inline: BTreeMap<String, String>,
}

impl Role {
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:role{}{}", self.account, self.path, self.name)
    }

    pub fn created(&self) -> Timestamp {
        Timestamp::from_millis(self.created_ms)
    }
}

/// The roles of all accounts.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    store: Arc<dyn Store>,
}

impl Roles {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Errors: [`Error::NoSuchEntity`].
    pub fn get(&self, account: &AccountId, name: &str) -> Result<Role, Error> {
        self.read(account, name).map(|(_, role)| role)
    }

    /// Stores a role whose name must be free, in any case.
    ///
    /// Errors: [`Error::EntityAlreadyExists`], [`Error::LimitExceeded`].
    pub async fn create(&self, role: &Role) -> Result<(), Error> {
        let batch = Batch::new().insert(ROLES, key(&role.account, &role.name), encode(role)?);
        match self.store.commit(batch).await {
            Err(CommitError::Conflict { .. }) => {
                Err(Error::EntityAlreadyExists(format!("Role with name {} already exists.", role.name)))
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Changes a role as it is at the moment of the commit.
    ///
    /// Errors: [`Error::NoSuchEntity`], what `change` refuses, [`Error::LimitExceeded`].
    pub async fn change(
        &self,
        account: &AccountId,
        name: &str,
        change: impl Fn(&mut Role) -> Result<(), Error>,
    ) -> Result<Role, Error> {
        for _ in 0..TRIES {
            let (version, mut role) = self.read(account, name)?;
            change(&mut role)?;
            let batch = Batch::new().replace(ROLES, key(account, name), version, encode(&role)?);
            match self.store.commit(batch).await {
                Err(CommitError::Conflict { .. }) => {}
                other => return Ok(other.map(|_| role)?),
            }
        }
        Err(Error::ConcurrentModification)
    }

    /// Removes a role that `removable` lets go.
    ///
    /// Errors: [`Error::NoSuchEntity`], what `removable` refuses.
    pub async fn delete(
        &self,
        account: &AccountId,
        name: &str,
        removable: impl Fn(&Role) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (version, role) = self.read(account, name)?;
            removable(&role)?;
            let key = key(account, name);
            let expect = flint_store::Expect::Version(version);
            let batch = Batch::new().expect(ROLES, key.clone(), expect).delete(ROLES, key);
            match self.store.commit(batch).await {
                Err(CommitError::Conflict { .. }) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        Err(Error::ConcurrentModification)
    }

    /// At most `limit` roles below `path` in the order of their names, after the role called `after`.
    pub fn list(&self, account: &AccountId, path: &str, after: Option<&str>, limit: usize) -> Result<Vec<Role>, Error> {
        let mut range = KeyRange::prefix(&Key::default().text(account.as_str()));
        if let Some(name) = after {
            range = range.after(&key(account, name));
        }
        let mut found = Vec::new();
        loop {
            let rows = self.store.scan(ROLES, &range, PAGE, Direction::Forward)?;
            for row in &rows {
                let role = decode(row)?;
                if role.path.starts_with(path) {
                    found.push(role);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            match rows.last() {
                Some(last) if rows.len() == PAGE => range = range.after(&last.key),
                _ => return Ok(found),
            }
        }
    }

    /// The role and the version of its record.
    ///
    /// Errors: [`Error::NoSuchEntity`].
    pub fn read(&self, account: &AccountId, name: &str) -> Result<(u64, Role), Error> {
        let missing = || Error::NoSuchEntity(format!("The role with name {name} cannot be found."));
        let key = key(account, name);
        let found = self.store.get(ROLES, &key)?.ok_or_else(missing)?;
        let role = decode(&Row { key, version: found.version, value: found.value })?;
        if role.name == name { Ok((found.version, role)) } else { Err(missing()) }
    }
}

fn key(account: &AccountId, name: &str) -> Key {
    Key::default().text(account.as_str()).text(&name.to_ascii_lowercase())
}

fn encode(role: &Role) -> Result<bytes::Bytes, Error> {
    let bytes = record::encode(LAYOUT, role);
    if bytes.len() > RECORD_BYTES {
        return Err(Error::LimitExceeded(format!(
            "Maximum policy size of 10240 bytes exceeded for role {}",
            role.name
        )));
    }
    Ok(bytes)
}

fn decode(row: &Row) -> Result<Role, Error> {
    record::decode(LAYOUT, &row.value).map_err(|e| {
        let mut parts = row.key.parts();
        let _account = parts.text();
        Error::Record { name: parts.text().unwrap_or_default().to_string(), why: e.to_string() }
    })
}
