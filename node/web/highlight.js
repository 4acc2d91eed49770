// Colours for code: strings, comments, numbers and the words that most languages share. It knows no
// grammar, so it is never badly wrong.

import { el } from "./dom.js";

/** Longer code has no colours. */
const LONGEST = 30_000;

const WORDS = new Set(("abstract and as assert async await bool boolean break case catch char class const " +
  "continue crate def default defer del delete do double elif else end enum except export extends extern " +
  "false False final finally float fn for from func function global go goto if impl implements import in " +
  "instanceof int interface is lambda let local long loop match mod module move mut namespace new nil None " +
  "not null nullptr of operator or override package pass private protected pub public raise ref repeat " +
  "return select self Self SELECT FROM WHERE INSERT UPDATE DELETE JOIN ON AND OR NOT GROUP BY ORDER short " +
  "signed sizeof static str string struct super switch template then this throw throws trait true True try " +
  "type typedef typeof union unless unsafe unsigned until use using var virtual void volatile when where " +
  "while with yield").split(" "));

const HASH = /^(py|python|sh|bash|shell|zsh|console|ruby|rb|r|perl|yaml|yml|toml|make|makefile|dockerfile|elixir|julia|nim|fish)$/i;
const DASH = /^(sql|lua|haskell|hs|ada|elm)$/i;
const PLAIN = /^(|text|txt|plain|plaintext|markdown|md|output|log|diff)$/i;

const RUST = /^(rust|rs)$/i;

/** In Rust a single quote begins a lifetime as often as a letter. */
const LETTER = /"(?:\\.|[^"\\\n])*"?|'(?:\\[^'\n]+|[^'\\\n])'/y;
const STRING = /"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?/y;
const NUMBER = /\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)/y;
const WORD = /[A-Za-z_$][\w$]*/y;
const SLASHES = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y;
const HASHES = /#[^\n]*/y;
const DASHES = /--[^\n]*/y;

/** Appends `text` to `into`, and gives that. */
export function highlight(text, language, into) {
  if (PLAIN.test(language) || text.length > LONGEST) {
    into.append(text);
    return into;
  }
  const comment = HASH.test(language) ? HASHES : DASH.test(language) ? DASHES : SLASHES;
  const kinds = [[comment, "comment"], [RUST.test(language) ? LETTER : STRING, "string"], [WORD, "word"], [NUMBER, "number"]];
  let plain = "";
  let at = 0;
  const flush = () => {
    if (plain !== "") into.append(plain);
    plain = "";
  };
  while (at < text.length) {
    let length = 1;
    let kind = null;
    for (const [pattern, name] of kinds) {
      pattern.lastIndex = at;
      const found = pattern.exec(text);
      if (found) {
        length = found[0].length;
        kind = name === "word" && !WORDS.has(found[0]) ? null : name;
        break;
      }
    }
    const piece = text.slice(at, at + length);
    if (kind) {
      flush();
      into.append(el("span", { class: `code-${kind}`, text: piece }));
    } else {
      plain += piece;
    }
    at += length;
  }
  flush();
  return into;
}
