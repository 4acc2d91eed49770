"""Writes the training set: chats made from a hand-written story grammar (lexicon.py, plots.py, chat.py).

    python make_data.py --docs 200000 --out data.jsonl

Every line of the output is {"messages": [...]}. Nothing is downloaded and no other model is used.
"""
import argparse
import json
import random
import re

import chat
import lexicon as L
from plots import ADJ_LINES, HOBBIES, PLOTS

R = random.Random()
COMMON = [(k, c) for c, ks in L.HEROES.items() for k in ks]
FRIEND_CLASSES = ["forest", "farm", "jungle", "bird", "bug", "magic", "person"]
# plots that make little sense for someone who lives in the sea
NOT_SEA = {"snow", "garden", "bake", "rain", "truth", "build", "noise", "storm"}
IN = {"hill": "on", "mountain": "on", "bridge": "on", "island": "on", "beach": "on", "cliff": "on", "reef": "by", "tower": "in", "river": "by",
      "lake": "by", "pond": "by", "stream": "by", "waterfall": "by", "water hole": "by", "old mill": "near", "moon": "on", "sea": "by",
      "old shipwreck": "near", "lighthouse": "near", "haystack": "behind", "stone wall": "behind", "hedge": "behind", "old stump": "near",
      "rose bush": "near", "school": "at", "market": "at", "station": "at", "harbor": "at", "farm": "on", "playground": "on", "clearing": "in",
      "bay": "in", "lagoon": "in", "end of the rainbow": "near", "city": "in", "stars": "near", "valley": "in", "castle": "in"}
IRREGULAR = {"mouse": "mice", "goose": "geese", "wolf": "wolves", "fish": "fish", "sheep": "sheep", "deer": "deer", "moose": "moose",
             "thief": "thieves", "leaf": "leaves", "snowman": "snowmen", "fisherman": "fishermen", "elf": "elves", "calf": "calves",
             "dwarf": "dwarves", "postman": "postmen", "woodcutter": "woodcutters"}


def pick(xs):
    return R.choice(xs)


def p(x):
    return R.random() < x


def plural(w):
    if w in IRREGULAR:
        return IRREGULAR[w]
    if w.endswith(("s", "x", "ch", "sh")):
        return w + "es"
    if w.endswith("y") and w[-2] not in "aeiou":
        return w[:-1] + "ies"
    return w + "s"


def article(m):
    word = m.group(2)
    vowel = word[0].lower() in "aeiou" and not word.lower().startswith(("uni", "use", "uku", "eu", "one "))
    art = "an" if vowel or word.lower().startswith(("hones", "honor", "hour")) else "a"
    return (art.capitalize() if m.group(1) == "A" else art) + " " + word


def expand(t, v):
    """Chooses alternatives, fills the slots, fixes articles."""
    while "[" in t:
        t = re.sub(r"\[([^\[\]]*)\]", lambda m: pick(m.group(1).split("|")), t)

    def sub(m):
        k = m.group(1)
        x = v[k[0].lower() + k[1:]]
        x = x() if callable(x) else x
        return x[0].upper() + x[1:] if k[0].isupper() else x

    for _ in range(3):
        t = re.sub(r"\{(\w+)\}", sub, t)
    t = re.sub(r"@(a|A) (\w+)", article, t)
    # an article that begins a sentence
    t = re.sub(r'(^|[.!?]"? "?|^")(an?) (?=\w)', lambda m: m.group(1) + m.group(2).capitalize() + " " if not m.group(1).endswith(('" ',)) else m.group(0), t)
    return t


PRON = {"f": ("she", "her", "her", "herself"), "m": ("he", "him", "his", "himself"), "n": ("it", "it", "its", "itself")}


def invented():
    while True:
        n = pick(L.SYL_A) + pick(L.SYL_B)
        if p(0.35):
            n += pick(L.SYL_C)
        if not any(b in n.lower() for b in L.NOT_A_NAME):
            return n


def gender_of(kind, cls):
    if kind in L.FEMALE:
        return "f"
    if kind in L.MALE:
        return "m"
    if p({"thing": 0.35, "bug": 0.15, "magic": 0.1, "person": 0}.get(cls, 0.07)):
        return "n"
    return pick("fm")


def name_for(g, rare=0.1):
    if p(rare):
        return invented()
    return pick(L.NAMES_F if g == "f" else L.NAMES_M if g == "m" else L.NAMES_F + L.NAMES_M)


class Story:
    """One story: first its facts, then a request that mentions some of them, then the text."""

    def __init__(self):
        if p(0.12):
            self.kind, self.cls = pick(L.RARE), "thing"
            self.cls = "person" if self.kind in L.RARE_PEOPLE else "jungle" if self.kind in L.RARE_ANIMALS else "thing"
            g_cls = self.cls
        else:
            self.kind, self.cls = pick(COMMON)
            g_cls = self.cls
        self.gender = gender_of(self.kind, g_cls)
        self.adjs = []
        if p(0.75):
            if p(0.45):
                a, b = pick(L.ADJ_MOOD), pick(L.ADJ_SIZE)
                self.adjs = [a, b] if p(0.8) else [b, a]
            else:
                self.adjs = [pick(L.ADJ_HERO)]
        if self.cls == "person":
            self.adjs = [a for a in self.adjs if a not in L.LOOKS]
        self.name = None
        if p(0.7):
            self.name = name_for(self.gender)
        # friend
        self.fcls = pick(FRIEND_CLASSES) if self.cls != "sea" or p(0.2) else "sea"
        self.fkind = pick([k for k in L.HEROES[self.fcls] if k != self.kind])
        self.fgender = gender_of(self.fkind, self.fcls)
        if self.fgender == self.gender and p(0.75) and self.fkind not in L.FEMALE | L.MALE:
            self.fgender = "f" if self.gender == "m" else "m"
        self.fname = name_for(self.fgender) if p(0.5) else None
        if self.fname == self.name:
            self.fname = None
        self.fadj = pick(L.ADJ_HERO) if p(0.35) else None
        if self.fcls == "person" and self.fadj in L.LOOKS:
            self.fadj = None
        self.plot = pick([k for k in PLOTS if self.cls != "sea" or k not in NOT_SEA])
        self.place = pick(L.PLACES[self.cls]) if p(0.9) else pick(L.ALL_PLACES)
        self.ob0 = pick(L.OBJECTS) if p(0.92) else pick(L.RARE_THINGS)
        self.obadj = pick(L.ADJ_OBJ) if p(0.7) else None
        self.food, self.treat, self.build = pick(L.FOODS), pick(L.TREATS), pick(L.BUILDS)
        self.skill, self.fear, self.plant = pick(L.SKILLS), pick(L.FEARS), pick(L.PLANTS)
        self.tell_place = False
        self.system = None
        self.mode = "normal"
        self.request()
        if self.plot in ("share", "bake") and self.food not in L.PLURAL_FOODS:
            self.food = pick(L.PLURAL_FOODS)
        if self.plot == "fear" and self.fkind in ("spider", "monster", "ghost"):
            self.fkind, self.fgender, self.fname = "rabbit", "f", None

    # ---- the request ----------------------------------------------------------------
    def request(self):
        he, him, his, _ = PRON[self.gender]
        desc = " ".join(self.adjs + [self.kind])
        a_desc = "@a " + desc
        if p(0.35):  # the request says less than the story knows
            a_desc = "@a " + self.kind
            if p(0.3):
                a_desc = "the " + self.kind
        ob = (self.obadj + " " if self.obadj else "") + self.ob0
        who = a_desc
        r = R.random()
        if self.name and p(0.22):
            if p(0.5):
                self.name = invented()
            who += pick([" named ", " called ", " whose name is "]) + self.name
        topic = None
        if self.plot in ("share", "bake"):
            self.food = pick(L.PLURAL_FOODS)
        tail = {
            "lost": [f"who lost {his} {self.ob0}", f"who loses @a {ob}", f"and a lost {self.ob0}"],
            "found": [f"who found @a {ob}", f"who finds @a {self.ob0}"],
            "share": ["who learned to share", f"who did not want to share {his} {self.food}", f"and some {self.food}"],
            "fear": [f"who was afraid of {self.fear[0]}", f"who is scared of {self.fear[0]}", "who was brave"],
            "help": ["who helped a friend", "who likes to help", "who helps others"],
            "build": [f"who wanted to build @a {self.build}", f"who builds @a {self.build}", "who never gave up"],
            "lonely": ["who was lonely", "who had no friends", "who finds a friend", "who made a new friend"],
            "waylost": ["who got lost", "who lost the way home", "who got lost in the dark"],
            "birthday": [f"and {his} birthday", "who had a birthday", "who gets a surprise"],
            "race": ["and a race", "who ran a race", "who wanted to win a race"],
            "truth": ["who told a lie", "who broke a vase", "who learned to tell the truth"],
            "rain": ["on a rainy day", "in the rain", "who did not like the rain"],
            "snow": ["in the snow", "in winter", "who built a snowman", "who saw snow for the first time"],
            "journey": [f"who wanted to see the {self.place}", "who went on a journey", "who goes on an adventure", "who goes on a trip"],
            "wish": ["who had one wish", f"who found a magic {self.ob0}", "and a magic wish"],
            "garden": [f"who planted a seed", f"who wanted to grow @a {self.plant}", "who learned to be patient", "and a garden"],
            "noise": ["who heard a strange noise", "who was scared at night", "and a noise in the night"],
            "bedtime": ["who could not sleep", "who did not want to go to bed", "who counted the stars"],
            "skill": [f"who wanted to {self.skill[0]}", f"who learned to {self.skill[0]}", f"who could not {self.skill[0]}"],
            "quarrel": ["who had a fight with a friend", "who said sorry", f"and a fight about @a {self.ob0}"],
            "bake": [f"who made @a {self.treat}", f"who wanted to bake @a {self.treat}", "who likes to cook"],
            "treasure": ["who found a treasure", "and a treasure map", "who looked for a treasure"],
            "gift": ["who made a present", "who gave a gift to a friend", "and a present"],
            "storm": ["in a storm", "and a big storm", "and the wind"],
        }[self.plot]
        if r < 0.34:
            topic = who
        elif r < 0.48:
            self.fadj = self.fadj if p(0.4) else None
            both = "@a " + (self.fadj + " " if self.fadj else "") + self.fkind
            if a_desc.startswith("the "):
                both = both.replace("@a", "the")
            topic = f"{who} and {both}"
        elif r < 0.64:
            topic = f"{who} {pick(tail)}"
        elif r < 0.70:
            self.tell_place = True
            prep = IN.get(self.place, "in")
            topic = pick([f"{who} {prep} the {self.place}", f"the {self.place}", f"@a {self.place}", f"{who} and the {self.place}"])
        elif r < 0.77:
            self.plot = pick(["lost", "found", "wish", "quarrel", "treasure", "gift"])
            topic = pick([f"@a {ob}", f"@a {ob}", f"{who} and @a {ob}", f"the {ob}", f"@a lost {self.ob0}"])
            if "lost" in topic:
                self.plot = "lost"
        elif r < 0.81:
            t = pick(list(L.THEMES))
            plot = L.THEMES[t]
            if plot.startswith("journey_"):
                self.place = t.split()[-1]
                plot = "journey"
            elif plot == "skill_music":
                self.skill, plot = pick([s for s in L.SKILLS if s[0].split()[0] in ("sing", "whistle", "play", "dance")]), "skill"
            self.plot = plot
            topic = t if p(0.6) else f"{t} with {who}"
        elif r < 0.83:
            self.plot = pick(["share", "bake"])
            self.food = pick(L.PLURAL_FOODS)
            topic = self.food if self.plot == "share" else "@a " + self.treat
        elif r < 0.86:
            topic = plural(self.kind)
        elif r < 0.89:
            words = [self.kind, self.place, pick([self.ob0, self.food])]
            if words[2] == self.ob0:
                self.plot = pick(["lost", "found", "wish", "treasure"])
            else:
                self.plot, self.food = "share", pick(L.PLURAL_FOODS)
                words[2] = self.food
            self.tell_place = True
            R.shuffle(words)
            if p(0.4):
                words = words[:2]
            topic = "WORDS " + (", ".join(words) if p(0.6) else " and ".join(words))
        elif r < 0.91 and self.name:
            if p(0.6):
                topic = f"{self.name} the {self.kind}"
            else:
                self.fname = self.fname or name_for(self.fgender, 0.3)
                topic = f"{self.name} and {his} friend {self.fname}"
        if self.cls == "sea" and self.plot in NOT_SEA and topic is None:
            self.plot = "lonely"

        story = pick(["story"] * 9 + ["short story", "little story", "bedtime story", "tale", "fairy tale", "funny story", "nice story", "happy story",
                                      "children's story", "tiny story", "cute story", "simple story", "fun story", "very short story"])
        if story == "bedtime story" and topic is None:
            self.plot = pick(["bedtime", "noise", "bedtime", "lonely"])
        if story in ("short story", "tiny story", "very short story"):
            self.mode = "short"
        if topic is None:
            q = pick([f"Tell me a {story}.", f"Tell me a {story}", f"Write a {story}.", f"Please tell me a {story}.", f"Can you tell me a {story}?",
                      "Tell me something.", "Once upon a time", f"I want a {story}.", f"A {story}, please.", "Make up a story.", "Story please",
                      f"I would like to hear a {story}.", f"Do you know a {story}?", "Start a story.", "Tell us a story!", "story",
                      "Tell me a story that begins with once upon a time.", "Write a short story in simple words.", "Surprise me with a story."])
            if q == "Once upon a time":
                self.once = True
        elif topic.startswith("WORDS "):
            w = topic[6:]
            q = pick([f"Write a {story} with the words {w}.", f"Tell me a {story} with these words: {w}.", f"Use these words in a {story}: {w}.",
                      f"Make a {story} from these words: {w}", f"{w[0].upper() + w[1:]}."])
        else:
            if p(0.03):
                topic = re.sub(r"^@a ", "", topic)
            q = pick([f"Tell me a {story} about {topic}."] * 8 + [f"Write a {story} about {topic}."] * 4 + [
                f"Can you tell me a {story} about {topic}?", f"Please tell me a {story} about {topic}.", f"I want to hear a {story} about {topic}.",
                f"Please write a {story} about {topic}.", f"Could you write a {story} about {topic}?", f"Make up a {story} about {topic}.",
                f"Do you know a {story} about {topic}?", f"I would like a {story} about {topic}.", f"Tell us a {story} about {topic}.",
                f"{story.capitalize()} about {topic}", f"A {story} about {topic}, please.", f"Tell me about {topic}.", f"{topic}",
                f"Give me a {story} about {topic}.", f"Write me a {story} about {topic}.", f"Once upon a time there was {topic}" if topic.startswith("@a ") else f"Tell me a {story} about {topic}",
                f"Tell a {story} about {topic}!", f"My child wants a {story} about {topic}.", f"Hello! Please tell me a {story} about {topic}.",
                f"Tell me a {story} in which there is {topic}." if topic.startswith("@a ") else f"Write a {story} about {topic}"])
        q = re.sub(r"@(a|A) (\w+)", article, q)
        q = q[0].upper() + q[1:]
        if p(0.12):
            q = q[:-1] if q[-1] in ".!" else q
        if p(0.06):
            q = q.lower() if not (self.name and self.name in q) else q
        self.q = q

    # ---- the text -------------------------------------------------------------------
    def vars(self):
        he, him, his, self_ = PRON[self.gender]
        fhe, fhim, fhis, _ = PRON[self.fgender]
        the = "the " + self.kind
        adj = self.adjs[-1] if self.adjs else None
        # two of the same kind cannot both be "the fox"
        n = self.name or the
        h = lambda: (self.name if p(0.72) else the) if self.name else (f"the {adj} {self.kind}" if adj and p(0.12) else the)
        fthe = "the " + self.fkind
        f = self.fname or fthe
        a_f = "@a " + (self.fadj + " " if self.fadj else "") + self.fkind + (pick([" named ", " called "]) + self.fname if self.fname else "")
        pool = [k for c in FRIEND_CLASSES if c != "person" or self.cls == "person" for k in L.HEROES[c] if k not in (self.kind, self.fkind)]
        if self.cls in ("sea",):
            pool = [k for k in L.HEROES["sea"] if k not in (self.kind, self.fkind)]
        x1, x2 = R.sample(pool, 2)
        pls = [x for x in L.PLACES[self.cls] if x != self.place]
        pl2, pl3 = R.sample(pls, 2)
        inpl = IN.get(self.place, "in") + " the " + self.place
        inpl2 = IN.get(pl2, "in") + " the " + pl2
        ob = (self.obadj + " " if self.obadj else "") + self.ob0
        ob2 = pick("hat scarf coat boots mittens".split()) if self.plot == "snow" else pick([o for o in L.OBJECTS if o != self.ob0])
        return dict(h=h, n=n, he=he, him=him, his=his, self=self_, f=f, fhe=fhe, fhim=fhim, fhis=fhis, a_f=a_f, kind=self.kind,
                    x1=x1, x2=x2, xhis=pick(["his", "her"]), ob=ob, ob0=self.ob0, ob2=ob2, pl=self.place, pl2=pl2, pl3=pl3, inpl=inpl, inpl2=inpl2,
                    food=self.food, treat=self.treat, build=self.build, skill=self.skill[0], skilling=self.skill[1], fear=self.fear[0],
                    plant=self.plant, color=pick(L.COLORS), missing=pick(["eggs", "nuts", "apples", "berries"]),
                    home_short=pick(["near the ", "not far from the "]) + pl3, hobby=pick(HOBBIES[self.cls].split("|")))

    def text(self):
        v = self.vars()
        desc = " ".join(self.adjs + [self.kind])
        named = pick([" named ", " named ", " called "]) + self.name if self.name else ""
        home = pick(L.HOMES[self.cls])
        if self.tell_place:
            prep = IN.get(self.place, "in")
            home = pick([f"{prep} the {self.place}", f"near the {self.place}", f"in a little house near the {self.place}" if self.cls in ("person", "magic", "thing") else f"not far from the {self.place}"])
        brief = self.mode == "short"
        once = pick(["Once upon a time, ", "Once upon a time, ", "Once upon a time, ", "Long ago, ", "Once, ", "A long time ago, ", "Once upon a time "])
        if getattr(self, "once", False):
            once = "Once upon a time, "
        o = [f"{once}there was @a {desc}{named}.", f"{once}there lived @a {desc}{named}.", f"{once}@a {desc}{named} lived {home}.",
             f"There once was @a {desc}{named}.", f"{once}{home}, there lived @a {desc}{named}.", f"{once}there was @a {desc}{named} who lived {home}."]
        if self.name:
            o += [f"{self.name} was @a {desc}.", f"{self.name} was @a {desc} who lived {home}.", f"{once}there was @a {desc}. {{His}} name was {self.name}."]
        w = [5, 2, 3, 2, 2, 3] + [1, 1, 2][: len(o) - 6]
        opening = R.choices(o, w)[0]
        if getattr(self, "once", False) and not opening.startswith("Once upon"):
            opening = o[0]
        out = [opening]
        if "lived " not in opening and "live" not in opening and not brief and (p(0.55) or self.tell_place):
            out.append(f"{{He}} lived {home}.")
        lines = [x for a in self.adjs for x in ADJ_LINES.get(a, [])]
        clash = {"lonely": {"happy", "friendly", "cheerful"}, "fear": {"brave"}, "share": {"kind", "greedy"}, "truth": {"honest"}, "skill": {"proud"}}
        if lines and p(0.55) and not (set(self.adjs) & clash.get(self.plot, set())) and not brief:
            out.append(pick(lines))
        elif p(0.25) and not brief:
            out.append(f"{{He}} {pick(['loved', 'liked'])} to {v['hobby']}.")
        for slot in PLOTS[self.plot]:
            if slot[0] is None:
                if brief or p(0.5):
                    continue
                slot = slot[1:]
            out.append(pick(slot))
        if p(0.25):
            out.append("The end.")
        parts = [expand(t, v) for t in out]
        # paragraphs: one in four stories has them
        if p(0.2) and len(parts) > 8:
            i = R.randint(2, 4)
            j = R.randint(6, len(parts) - 2)
            return " ".join(parts[:i]) + "\n\n" + " ".join(parts[i:j]) + "\n\n" + " ".join(parts[j:])
        return " ".join(parts)

    def question(self):
        """A question about the story and its answer."""
        qs = []
        if self.name:
            qs.append((pick([f"What was the name of the {self.kind}?", f"What was the {self.kind} called?"]), pick([f"The {self.kind} was called {self.name}.", f"{PRON[self.gender][2].capitalize()} name was {self.name}."])))
            qs.append((f"Who was {self.name}?", re.sub(r"@(a) (\w+)", article, f"{self.name} was @a {self.kind}.")))
        qs.append((pick(["Who was the story about?", "What was the story about?"]),
                   re.sub(r"@(a) (\w+)", article, f"The story was about @a {' '.join(self.adjs + [self.kind])}" + (f" named {self.name}." if self.name else "."))))
        if self.fname:
            qs.append((f"Who was {self.fname}?", re.sub(r"@(a) (\w+)", article, f"{self.fname} was @a {self.fkind}.")))
        return pick(qs)


def any_hero():
    a = pick(L.ADJ_HERO) + " " if p(0.5) else ""
    return re.sub(r"@(a) (\w+)", article, f"@a {a}{pick(COMMON)[0]}")


def small_talk():
    r = R.random()
    if r < 0.62:
        us, ans = pick(chat.SMALL_TALK[:7]) if p(0.6) else pick(chat.SMALL_TALK)
        u, a = pick(us), pick(ans)
    elif r < 0.69:
        k = pick(list(chat.SOUNDS))
        s = chat.SOUNDS[k]
        u = re.sub(r"@(a) (\w+)", article, pick([f"What does @a {k} say?", f"What sound does @a {k} make?", f"What does the {k} say?"]))
        a = re.sub(r"@(a|A) (\w+)", article, f"@A {k} says {s}.")
    elif r < 0.74:
        k = pick(list(chat.OPPOSITES))
        u, a = pick([f"What is the opposite of {k}?", f"What is the opposite of {k}"]), f"The opposite of {k} is {chat.OPPOSITES[k]}."
    elif r < 0.77:
        ks = R.sample([k for c in ("forest", "farm", "jungle", "bird") for k in L.HEROES[c]], 3)
        u, a = pick(["Name three animals.", "Tell me three animals.", "List three animals."]), re.sub(r"@(a) (\w+)", article, f"@a {ks[0]}, @a {ks[1]} and @a {ks[2]}.")
        a = a[0].upper() + a[1:]
    elif r < 0.80:
        n = pick(L.NAMES_F + L.NAMES_M) if p(0.5) else invented()
        u = pick([f"My name is {n}.", f"I am {n}.", f"Hello, my name is {n}!", f"Hi, I am {n}"])
        a = pick([f"Hello, {n}! It is nice to meet you. Would you like a story?", f"Nice to meet you, {n}! What shall my story be about?"])
    else:
        w, v = R.sample(L.RARE + L.OBJECTS, 2)
        u = pick(chat.OFF_TOPIC).replace("{w}", w).replace("{v}", v).replace("{C}", pick(chat.COUNTRIES))
        u = u.replace("{i}", str(R.randint(1, 99))).replace("{j}", str(R.randint(1, 99)))
        a = pick(chat.UNKNOWN)
    if p(0.1):
        u = u.lower() if p(0.5) else u.rstrip(".!?")
    return u, a.replace("{a}", any_hero(), 1).replace("{b}", any_hero(), 1).replace("{p}", pick(L.HEROES["forest"][:5]))


def user(x):
    return {"role": "user", "content": x}


def assistant(x):
    return {"role": "assistant", "content": x}


def document():
    m = []
    if p(0.1):
        m.append({"role": "system", "content": pick(chat.SYSTEMS)})
    if p(0.1):
        u, a = small_talk()
        return {"messages": m + [user(u), assistant(a)]}
    if p(0.03):
        u, a = small_talk()
        m += [user(u), assistant(a)]
    s = Story()
    m += [user(s.q), assistant(s.text())]
    if p(0.06):
        u, a = s.question()
        m += [user(u), assistant(a)]
    if p(0.04):
        s = Story()
        if p(0.5):
            s.q = pick(["Another one, please.", "Tell me another story.", "One more!", "Another story", "And now another one.", "More", "Again!"])
        m += [user(s.q), assistant(s.text())]
    if p(0.02):
        us, ans = chat.SMALL_TALK[5]
        m += [user(pick(us)), assistant(pick(ans))]
    return {"messages": m}


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--docs", type=int, default=200_000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--out", default="data.jsonl")
    args = ap.parse_args()
    R.seed(args.seed)
    with open(args.out, "w") as f:
        for _ in range(args.docs):
            f.write(json.dumps(document()) + "\n")
