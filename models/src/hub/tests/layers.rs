//! Of files that hold more than some layers only their bytes come, from the hub and from peers.

mod faults;
#[cfg(target_os = "linux")]
mod full;
mod peers;

use std::{ops::Range, path::PathBuf, thread};

use super::*;
use crate::{
    Catalog, Model, ModelError, WeightName, Weights,
    hub::{Part, State, part_bytes},
    parts,
    weights::{FfnPart, LayerWeight},
};

const WEIGHTS: &str = "model.safetensors";

/// A model whose every byte matters, of 8 layers in one file of 7 MB.
fn stories() -> Setup {
    let setup = Setup::empty();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    setup.publish(&folder);
    setup
}

fn published() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    fs::read(folder.join(WEIGHTS)).unwrap()
}

fn name() -> HubName {
    HubName::parse(REPO).unwrap()
}

fn layers(setup: &Setup, layers: Range<u32>) -> Result<Pulled, HubError> {
    setup
        .hub()
        .pull(&name(), Some(layers), &(), &Cancel::default())
}

/// The ranges that were asked for, as numbers.
fn asked(setup: &Setup) -> Vec<Range<u64>> {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let range = |range: Option<String>| {
        let range = range.expect("a range");
        let (from, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        number(from)..number(last) + 1
    };
    setup.ranges().into_iter().map(range).collect()
}

fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn snapshot(setup: &Setup) -> PathBuf {
    RepoFolder::new(setup.cache.path(), REPO).snapshot(server::COMMIT)
}

fn data(setup: &Setup) -> PathBuf {
    parts::find(&snapshot(setup).join(WEIGHTS)).unwrap().data
}

/// That the weights of these layers are those of the model.
fn same(here: &Weights, layers: Range<u32>) {
    let whole = Model::embedded().unwrap().weights(0..8).unwrap();
    for layer in layers {
        for weight in [
            LayerWeight::AttnQ,
            LayerWeight::FfnNorm,
            LayerWeight::Ffn(FfnPart::Down),
        ] {
            let name = WeightName::Layer(layer, weight);
            let (here, whole) = (here.get(name).unwrap(), whole.get(name).unwrap());
            assert_eq!(*here.data, *whole.data, "{name:?}");
        }
    }
}

#[test]
fn layers_cost_their_bytes_and_later_ones_what_is_missing() {
    let setup = stories();
    let pulled = layers(&setup, 2..4).unwrap();
    let first = asked(&setup);
    let all = published().len() as u64;
    // Two of eight layers, and where they are.
    assert!(bytes(&first) < all / 3, "{first:?} of {all}");
    let model = Model::open(&pulled.path).unwrap();
    let weights = model.weights(2..4).unwrap();
    same(&weights, 2..4);
    weights.check_numbers(&mut |_| {}).unwrap();
    // Nobody takes a hole for weights, and nothing looks like the whole file.
    let refused = model.weights(1..4).unwrap_err();
    assert!(matches!(refused, ModelError::NotHere { .. }), "{refused}");
    assert_eq!(setup.cached(WEIGHTS), None);
    assert!(
        setup.blobs().iter().all(|blob| blob.len() == 40),
        "{:?}",
        setup.blobs()
    );
    // What all nodes tell of a model they can tell.
    let embedded = Model::embedded().unwrap();
    assert_eq!(
        model.fingerprint().unwrap(),
        embedded.fingerprint().unwrap()
    );
    assert_eq!(model.sizes().unwrap(), embedded.sizes().unwrap());
    assert_eq!(model.config().weight_bytes, embedded.config().weight_bytes);

    assert!(layers(&setup, 3..5).is_ok());
    let second = asked(&setup);
    assert!(bytes(&second) < all / 8, "{second:?}");
    assert!(
        first
            .iter()
            .all(|a| second.iter().all(|b| a.end <= b.start || b.end <= a.start))
    );
    same(
        &Model::open(&pulled.path).unwrap().weights(2..5).unwrap(),
        2..5,
    );
    assert_eq!(part_bytes(&pulled.path), bytes(&first) + bytes(&second));
    // Again, and without the hub: nothing comes.
    layers(&setup, 2..5).unwrap();
    assert_eq!(asked(&setup), []);
    let offline = HubOptions {
        offline: true,
        ..setup.options()
    };
    let hub = Hub::new(offline);
    hub.pull(&name(), Some(2..5), &(), &Cancel::default())
        .unwrap();
    let refused = hub.pull(&name(), Some(1..5), &(), &Cancel::default());
    assert!(matches!(refused, Err(HubError::Offline { .. })));

    // With the last byte it is a file of the cache like any other.
    setup.pull().unwrap();
    let third = asked(&setup);
    assert_eq!(bytes(&first) + bytes(&second) + bytes(&third), all);
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    assert_eq!(part_bytes(&pulled.path), 0);
    same(&weights, 2..4);
}

#[test]
fn what_lacks_little_is_fetched_whole() {
    let setup = stories();
    layers(&setup, 0..8).unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    let ranges = setup.ranges();
    // The beginning is not fetched twice, and the hash is made as bytes come.
    assert_eq!(
        ranges,
        [Some("bytes=0-65535".into()), Some("bytes=65536-".into())]
    );
    layers(&setup, 0..3).unwrap();
    assert_eq!(setup.ranges(), []);
}

#[test]
fn what_tells_what_a_model_is_costs_no_weights() {
    let setup = stories();
    let pulled = setup
        .hub()
        .pull_part(&name(), Part::Front, &(), &Cancel::default());
    let model = Model::open(&pulled.unwrap().path).unwrap();
    assert_eq!(asked(&setup).as_slice(), std::slice::from_ref(&(0..65536)));
    let embedded = Model::embedded().unwrap();
    assert_eq!(
        model.fingerprint().unwrap(),
        embedded.fingerprint().unwrap()
    );
    assert!(model.weights(0..1).is_err());
}

#[test]
fn two_who_want_other_layers_of_a_file_at_once_both_get_them() {
    let setup = stories();
    thread::scope(|scope| {
        let wanted = [1..3, 4..5, 2..5];
        let pulls = wanted.map(|wanted| scope.spawn(|| layers(&setup, wanted).unwrap()));
        for pull in pulls {
            pull.join().unwrap();
        }
    });
    let model = Model::open(&snapshot(&setup)).unwrap();
    same(&model.weights(1..5).unwrap(), 1..5);
    // No byte came twice.
    let ranges = asked(&setup);
    assert_eq!(bytes(&ranges), part_bytes(&snapshot(&setup)), "{ranges:?}");
}

#[test]
fn a_part_and_the_beginning_of_the_whole_file_do_not_get_into_each_others_way() {
    let setup = stories();
    setup
        .server
        .fault(On::Body, Fault::Cut(600_000), usize::MAX);
    let options = HubOptions {
        attempts: 1,
        ..setup.options()
    };
    let hub = Hub::new(options);
    assert!(hub.pull(&name(), None, &(), &Cancel::default()).is_err());
    let incomplete = |setup: &Setup| setup.blobs().iter().any(|it| it.ends_with(".incomplete"));
    assert!(incomplete(&setup));
    setup.server.heal();
    layers(&setup, 4..6).unwrap();
    setup.pull().unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    assert!(!incomplete(&setup), "{:?}", setup.blobs());
    assert!(parts::of(&snapshot(&setup)).is_empty());
}

#[test]
fn parts_are_listed_checked_and_removed() {
    let setup = stories();
    let pulled = layers(&setup, 2..3).unwrap();
    let checked = setup
        .hub()
        .verify(&name(), &mut |_| {}, &Cancel::default())
        .unwrap();
    let weights = checked.iter().find(|file| file.file == WEIGHTS).unwrap();
    assert_eq!(
        (weights.state, weights.bytes),
        (State::Part, part_bytes(&pulled.path))
    );
    let cached = setup.hub().cached();
    assert_eq!(
        (cached[0].parts, cached[0].incomplete),
        (part_bytes(&pulled.path), 0)
    );
    let catalog = Catalog::with_places(Vec::new(), None, Some(setup.cache.path().to_owned()));
    assert!(catalog.resolve(REPO).unwrap().weights(2..3).is_ok());
    let removed = setup.hub().remove(&name()).unwrap();
    assert_eq!(removed.bytes, cached[0].parts + cached[0].bytes);
    assert!(!removed.paths[0].exists());
    // A record that nobody could have written is none.
    layers(&setup, 2..3).unwrap();
    let record = data(&setup).with_extension("json");
    let text = fs::read_to_string(&record).unwrap();
    for wrong in [
        text.replace("\"format\":1", "\"format\":2"),
        text.replace("\"from\":0", "\"from\":99999999"),
        "{}".to_owned(),
    ] {
        fs::write(&record, wrong).unwrap();
        assert!(parts::of(&snapshot(&setup)).is_empty());
        layers(&setup, 2..3).unwrap();
        assert_eq!(parts::of(&snapshot(&setup)).len(), 1);
    }
}

#[test]
fn gguf_files_are_fetched_by_layers_too() {
    let setup = Setup::empty();
    let mut file = GgufFile::tiny();
    // A header that is longer than a first look, and weights that are not zeros.
    let words = (0..20_000).map(|word| format!("word {word}")).collect();
    file.set(
        "general.words",
        crate::gguf::Value::Array(crate::gguf::Array::String(words)),
    );
    let filling = |name: &str, bytes| (name.to_owned(), vec![7; bytes]);
    file.tensors.insert(0, tensor(filling("before", 100_000)));
    let at = file
        .tensors
        .iter()
        .position(|it| it.name.starts_with("blk.1."))
        .unwrap();
    file.tensors
        .insert(at, tensor(filling("between", 2_000_000)));
    for (index, tensor) in file.tensors.iter_mut().enumerate() {
        tensor
            .data
            .iter_mut()
            .for_each(|byte| *byte = index as u8 + 1);
    }
    let whole = file.bytes().0;
    setup.server.put(REPO, "tiny.gguf", whole.clone());
    let options = HubOptions {
        gap: 32,
        ..setup.options()
    };
    let hub = Hub::new(options);
    let pulled = hub
        .pull(&name(), Some(0..1), &(), &Cancel::default())
        .unwrap();
    let model = Model::open(&pulled.path).unwrap();
    let first = bytes(&asked(&setup));
    assert!(first < whole.len() as u64 - 1_300_000, "{first}");
    assert!(model.weights(0..1).is_ok() && model.tokenizer().is_ok());
    assert!(matches!(
        model.weights(1..2),
        Err(ModelError::NotHere { .. })
    ));
    let there = tempfile::tempdir().unwrap();
    let copy = there.path().join("tiny.gguf");
    fs::write(&copy, &whole).unwrap();
    let copy = Model::open(&copy).unwrap();
    let query = |model: &Model, layer: u32| {
        let weights = model.weights(layer..layer + 1).unwrap();
        let view = weights.get(WeightName::Layer(layer, LayerWeight::AttnQ));
        view.unwrap().data.to_vec()
    };
    assert_eq!(query(&model, 0), query(&copy, 0));
    assert_eq!(model.fingerprint().unwrap(), copy.fingerprint().unwrap());
    // It has a name, as a whole one.
    let catalog = Catalog::with_places(Vec::new(), None, Some(setup.cache.path().to_owned()));
    assert!(catalog.resolve(REPO).unwrap().weights(0..1).is_ok());
    let file = HubName::parse("me/tiny:tiny.gguf").unwrap();
    assert!(hub.here(&file, Some(0..1)).is_some());
    hub.pull(&name(), None, &(), &Cancel::default()).unwrap();
    assert_eq!(setup.cached("tiny.gguf").unwrap(), whole);
    assert_eq!(
        query(&Model::open(&pulled.path).unwrap(), 1),
        query(&copy, 1)
    );
}

fn tensor((name, data): (String, Vec<u8>)) -> crate::test_files::Tensor {
    crate::test_files::Tensor {
        dims: vec![data.len() as u64 / 4],
        name,
        kind: crate::test_files::F32,
        data,
    }
}
