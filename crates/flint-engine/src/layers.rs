//! Layer versions: the snapshot, and their records at rest.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use flint_base::Timestamp;
use flint_model::{Arn, Place};
use flint_store::{Batch, Key, KeyRange, Keyspace, Store, record};
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::error::Error;
use crate::function::Package;
use crate::keys::decode;

/// Key: place, layer. Value: the number that the next version gets; numbers are never used twice.
const HEADS: Keyspace = Keyspace::new("layers");
/// Key: place, layer, number. Value: [`Record`].
const VERSIONS: Keyspace = Keyspace::new("layer-versions");

const LAYOUT: u8 = 1;

/// One version of a layer. Versions never change.
#[derive(Clone, Debug)]
pub(crate) struct LayerVersion {
    pub place: Place,
    pub name: String,
    pub version: u64,
    pub package: Package,
    pub description: String,
    pub architectures: Vec<String>,
    pub runtimes: Vec<String>,
    pub license: Option<String>,
    pub created: Timestamp,
    /// Keeps the package on disk.
    pub _code: Arc<Code>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    place: Place,
    name: String,
    version: u64,
    code_sha256: String,
    code_size: u64,
    description: String,
    architectures: Vec<String>,
    runtimes: Vec<String>,
    license: Option<String>,
    created_ms: i64,
}

/// The layers of every place.
#[derive(Debug, Default)]
pub(crate) struct Layers(RwLock<HashMap<Place, BTreeMap<String, Layer>>>);

#[derive(Clone, Debug, Default)]
struct Layer {
    next: u64,
    versions: BTreeMap<u64, Arc<LayerVersion>>,
}

/// A version as read back, before its package is known to be there.
pub(crate) struct Stored {
    record: Record,
}

impl Stored {
    pub(crate) fn package(&self) -> Package {
        Package { sha256: self.record.code_sha256.clone(), size: self.record.code_size }
    }

    pub(crate) fn with(self, code: Arc<Code>) -> LayerVersion {
        let package = self.package();
        let Record { place, name, version, description, architectures, runtimes, license, created_ms, .. } =
            self.record;
        let created = Timestamp::from_millis(created_ms);
        LayerVersion {
            place,
            name,
            version,
            package,
            description,
            architectures,
            runtimes,
            license,
            created,
            _code: code,
        }
    }
}

impl LayerVersion {
    pub(crate) fn layer_arn(&self) -> String {
        layer_arn(&self.place, &self.name)
    }

    pub(crate) fn arn(&self) -> String {
        format!("{}:{}", self.layer_arn(), self.version)
    }
}

pub(crate) fn layer_arn(place: &Place, name: &str) -> String {
    Arn::new("lambda", place, format!("layer:{name}")).to_string()
}

impl Layers {
    /// The number of the next version.
    pub(crate) fn next(&self, place: &Place, name: &str) -> u64 {
        self.read(|layers| layers.get(place)?.get(name).map(|layer| layer.next)).unwrap_or(1)
    }

    pub(crate) fn get(&self, place: &Place, name: &str, version: u64) -> Option<Arc<LayerVersion>> {
        self.read(|layers| layers.get(place)?.get(name)?.versions.get(&version).cloned())
    }

    /// A version by its ARN, as seen from `place`.
    pub(crate) fn by_arn(&self, place: &Place, arn: &str) -> Option<Arc<LayerVersion>> {
        let (layer, version) = arn.rsplit_once(':')?;
        let name = layer.strip_prefix(&layer_arn(place, ""))?;
        self.get(place, name, version.parse().ok()?)
    }

    /// The versions of a layer, newest first.
    pub(crate) fn versions(&self, place: &Place, name: &str) -> Vec<Arc<LayerVersion>> {
        let versions = |layers: &HashMap<Place, BTreeMap<String, Layer>>| {
            Some(layers.get(place)?.get(name)?.versions.values().rev().cloned().collect())
        };
        self.read(versions).unwrap_or_default()
    }

    /// The names of the layers that have a version, in order.
    pub(crate) fn names(&self, place: &Place) -> Vec<String> {
        let names = |layers: &HashMap<Place, BTreeMap<String, Layer>>| {
            let layers = layers.get(place)?.iter().filter(|(_, layer)| !layer.versions.is_empty());
            Some(layers.map(|(name, _)| name.clone()).collect())
        };
        self.read(names).unwrap_or_default()
    }

    pub(crate) fn put(&self, version: LayerVersion) {
        self.write(|layers| {
            let layer = layers.entry(version.place.clone()).or_default().entry(version.name.clone()).or_default();
            layer.next = layer.next.max(version.version + 1);
            layer.versions.insert(version.version, Arc::new(version));
        });
    }

    /// Notes the next number of a layer whose newest version may be gone.
    pub(crate) fn note_next(&self, place: &Place, name: &str, next: u64) {
        self.write(|layers| {
            let layer = layers.entry(place.clone()).or_default().entry(name.to_owned()).or_default();
            layer.next = layer.next.max(next);
        });
    }

    pub(crate) fn remove(&self, place: &Place, name: &str, version: u64) {
        self.write(|layers| {
            if let Some(layer) = layers.get_mut(place).and_then(|names| names.get_mut(name)) {
                layer.versions.remove(&version);
            }
        });
    }

    fn read<T>(&self, work: impl FnOnce(&HashMap<Place, BTreeMap<String, Layer>>) -> Option<T>) -> Option<T> {
        work(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, work: impl FnOnce(&mut HashMap<Place, BTreeMap<String, Layer>>)) {
        work(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

pub(crate) fn put(batch: Batch, layer: &LayerVersion) -> Batch {
    let record = Record {
        place: layer.place.clone(),
        name: layer.name.clone(),
        version: layer.version,
        code_sha256: layer.package.sha256.clone(),
        code_size: layer.package.size,
        description: layer.description.clone(),
        architectures: layer.architectures.clone(),
        runtimes: layer.runtimes.clone(),
        license: layer.license.clone(),
        created_ms: layer.created.as_millis(),
    };
    let head = Key::for_place(&layer.place).text(&layer.name);
    batch.put(VERSIONS, head.clone().u64(layer.version), record::encode(LAYOUT, &record)).put(
        HEADS,
        head,
        record::encode(LAYOUT, &(layer.version + 1)),
    )
}

pub(crate) fn delete(batch: Batch, place: &Place, name: &str, version: u64) -> Batch {
    batch.delete(VERSIONS, Key::for_place(place).text(name).u64(version))
}

/// Every version of every place, and fills in the numbers that are taken.
pub(crate) fn load(store: &dyn Store, layers: &Layers) -> Result<Vec<Stored>, Error> {
    let scan = |keyspace| {
        let unreadable = |e: flint_store::ReadError| Error::Record { key: "layers".into(), why: e.to_string() };
        store.scan(keyspace, &KeyRange::all(), usize::MAX, flint_store::Direction::Forward).map_err(unreadable)
    };
    for row in scan(HEADS)? {
        let next: u64 = decode(&row)?;
        let damaged = || Error::Record { key: format!("{:?}", row.key), why: "not a layer's key".to_owned() };
        let mut parts = row.key.parts();
        let mut part = || parts.text().ok_or_else(damaged);
        let (account, region, name) = (part()?, part()?, part()?);
        let place =
            Place { account: account.parse().map_err(|_| damaged())?, region: region.parse().map_err(|_| damaged())? };
        layers.note_next(&place, &name, next);
    }
    scan(VERSIONS)?.iter().map(|row| Ok(Stored { record: decode(row)? })).collect()
}
