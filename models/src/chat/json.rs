//! The filter `tojson` as `transformers` defines it: Python's `json.dumps`, without escapes for HTML.

use std::io;

use minijinja::{Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Wider than any template has it: a stranger's template must not fill memory with spaces.
const MAX_INDENT: usize = 32;

/// `value | tojson`, with Python's keyword arguments.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    if indent.is_some_and(|width| width > MAX_INDENT) {
        let expected = format!("`indent` should be at most {MAX_INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, expected));
    }

    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(error)
    };
    let mut json = serde_json::to_value(value).map_err(failed)?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            let expected = "`separators` should be two texts";
            return Err(Error::new(ErrorKind::InvalidOperation, expected));
        }
        // Python puts no space at the end of a line.
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let ascii = ensure_ascii == Some(true);
    let style = Python {
        item,
        key,
        indent,
        ascii,
        depth: 0,
        empty: true,
    };
    let mut bytes = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut bytes, style))
        .map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(error)
    })
}

/// Python's layout.
struct Python {
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    depth: usize,
    /// Nothing was written in the innermost list or object yet: an empty one stays on its line.
    empty: bool,
}

impl Python {
    fn line(&self, writer: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        match self.indent {
            Some(width) => {
                writer.write_all(["\n", &" ".repeat(width * self.depth)].concat().as_bytes())
            }
            None => Ok(()),
        }
    }

    fn open(&mut self, writer: &mut (impl io::Write + ?Sized), bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(&[bracket])
    }

    fn close(&mut self, writer: &mut (impl io::Write + ?Sized), bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(&[bracket])
    }

    fn next(&self, writer: &mut (impl io::Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            match c {
                ' '..='~' => write!(writer, "{c}")?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
