//! Reads payloads by the table alone.

use super::*;

/// What the table finds in a payload: names and what is there.
#[derive(Default)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    pub(super) numbers: Vec<(&'static str, u64)>,
    pub(super) found: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    fn number(&self, name: &str) -> usize {
        let mut all = self.numbers.iter().rev();
        let (_, number) = all.find(|(known, _)| *known == name).expect(name);
        usize::try_from(*number).expect("small")
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn big_endian(&mut self, length: usize) -> u64 {
        let bytes = self.take(length).iter();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn list(&mut self, count: usize) -> String {
        let numbers: Vec<u64> = (0..count).map(|_| self.big_endian(4)).collect();
        format!("{numbers:?}")
    }

    pub(super) fn text(&mut self, length: usize) -> String {
        String::from_utf8(self.take(length).to_vec()).expect("UTF-8")
    }

    fn tensor(&mut self, dimensions: [Dimension; 3]) -> String {
        let code = self.numbers.iter().find(|(name, _)| *name == "elements");
        let dtype = match code {
            Some((_, code)) => {
                let known = ELEMENTS
                    .iter()
                    .find(|(known, _)| u64::from(*known) == *code);
                known.expect("a code").1.expect("not token ids")
            }
            None => DType::F32,
        };
        let all = self.rest.len() / dtype.size();
        let fixed = |dimension: &Dimension| match dimension {
            Dimension::Field(name) => Some(self.number(name)),
            Dimension::One => Some(1),
            Dimension::Rest => None,
        };
        let known: usize = dimensions.iter().filter_map(fixed).product();
        let shape = dimensions
            .iter()
            .map(|dimension| fixed(dimension).unwrap_or(all / known));
        let shape: Vec<usize> = shape.collect();
        let bytes = self.take(self.rest.len()).to_vec();
        of_tensor(&Tensor::new(dtype, shape, bytes.into()).expect("bytes match"))
    }

    pub(super) fn field(&mut self, field: &Field) {
        let there = match field.when {
            None => true,
            Some(When::Zero(name)) => self.number(name) == 0,
            Some(When::NotZero(name)) => self.number(name) != 0,
        };
        if !there {
            return;
        }
        let all = self.rest.len();
        let number = match field.kind {
            Kind::U16 | Kind::Code(_) => Some(2),
            Kind::U32 => Some(4),
            Kind::U64 => Some(8),
            Kind::Flags(_) | Kind::Message | Kind::Element => Some(1),
            _ => None,
        };
        let number = number.map(|length| self.big_endian(length));
        self.numbers
            .extend(number.map(|number| (field.name, number)));
        let value = match field.kind {
            Kind::Flags(names) => {
                let set = |bit: u8| number.unwrap_or(0) & u64::from(bit) != 0;
                let names = names.iter().filter(|(bit, _)| set(*bit));
                names.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
            }
            Kind::F32 => format!("{:08x}", self.big_endian(4)),
            Kind::Text(length) => {
                let length = self.number(length);
                self.text(length)
            }
            Kind::Words => self.text(all),
            // Whether a plan is JSON only the node reads.
            Kind::Json | Kind::Piece | Kind::Bytes => format!("{:?}", self.take(all)),
            Kind::Numbers([]) => self.list(all / 4),
            Kind::Numbers(factors) => {
                let count = factors.iter().map(|name| self.number(name)).product();
                self.list(count)
            }
            Kind::Pairs(name) => {
                let count = self.number(name) * 2;
                self.list(count)
            }
            Kind::Tensor(dimensions) => self.tensor(dimensions),
            _ => number.expect("a number").to_string(),
        };
        self.found.push((field.name.to_owned(), value));
    }

    pub(super) fn container(&mut self, keys: &[&str]) {
        let length = self.big_endian(4);
        if length == 0 {
            return;
        }
        let json = self.text(usize::try_from(length).expect("small"));
        let tree = crate::json::Json::parse(json.as_bytes(), 64).expect("JSON");
        self.found.push(("json".to_owned(), json));
        let bare = (tree.get("shape").is_some()).then_some(&tree);
        let described = keys.iter().filter_map(|key| tree.get(key).or(bare));
        for description in described {
            let dtype = description.get("dtype").and_then(|name| name.as_str());
            let dtype = dtype.and_then(DType::parse).expect("a type");
            let shape = description.get("shape").and_then(|shape| shape.as_array());
            let size = |size: &crate::json::Json| size.as_u64().expect("a size") as usize;
            let shape: Vec<usize> = shape.expect("a shape").iter().map(size).collect();
            let bytes = self.take(shape.iter().product::<usize>() * dtype.size());
            let tensor = Tensor::new(dtype, shape, bytes.to_vec().into()).expect("bytes match");
            self.found.push(("tensor".to_owned(), of_tensor(&tensor)));
        }
    }
}
