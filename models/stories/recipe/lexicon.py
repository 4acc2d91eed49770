"""Word lists for the story grammar in make_data.py. All written by hand."""

# --- who the story can be about ------------------------------------------------------
# class -> kinds.  The class decides where the hero lives and which plots make sense.
HEROES = {
    "forest": """fox rabbit bear hedgehog squirrel deer wolf badger mouse beaver otter mole raccoon
        chipmunk skunk moose weasel porcupine hare fawn bunny bear cub""".replace("bear cub", "").split(),
    "farm": "cat dog pig cow horse sheep goat donkey lamb kitten puppy pony hen rooster calf hamster piglet chick".split(),
    "jungle": "lion tiger elephant monkey giraffe zebra hippo rhino camel kangaroo koala panda sloth leopard gorilla lemur llama cheetah crocodile snake lizard".split(),
    "bird": "owl duck robin sparrow parrot eagle swan goose crow raven penguin pigeon seagull peacock flamingo bluebird duckling hummingbird woodpecker stork chicken".split(),
    "sea": "fish whale dolphin octopus crab seal turtle shark starfish seahorse squid lobster jellyfish walrus mermaid".split(),
    "bug": "bee ant butterfly ladybug snail spider caterpillar beetle cricket firefly dragonfly worm grasshopper frog toad".split(),
    "magic": "dragon unicorn fairy wizard witch giant troll elf ghost gnome monster goblin phoenix genie".split(),
    "person": """boy girl princess prince king queen knight pirate farmer baker fisherman sailor teacher painter gardener
        astronaut doctor shepherd cook clown tailor grandmother grandfather captain musician explorer inventor
        dancer carpenter miller woodcutter singer postman librarian scientist firefighter""".split(),
    "thing": """robot train boat car truck cloud star snowman teapot lamp kite tractor bus airplane rocket clock
        doll toy umbrella balloon tree flower leaf raindrop snowflake candle pencil book drum bell lighthouse
        windmill pumpkin potato acorn pebble bicycle tugboat computer toaster spoon sock button dinosaur moon
        ship helicopter spaceship broom mitten shoe kettle pillow machine engine cactus mushroom""".split(),
}

# Kinds that fix the pronoun.
FEMALE = set("girl princess queen witch mermaid hen cow grandmother doll fairy".split())
MALE = set("boy prince king rooster wizard knight grandfather fisherman woodcutter postman snowman".split())

NAMES_F = """Lily Mia Anna Rosa Ella Lucy Daisy Nina Tilly Molly Clara Ruby Poppy Hazel Willow Luna Bella Maya Zoe
    Fern Ivy Pearl Penny Holly Olive Emma Sara Lola Betty Dora Greta Heidi Juno Kiki Lulu Mina Nora Pippa Suki Tara
    Wendy Yara Amy Jane Kate Alice Sofia Grace Rose Honey""".split()
NAMES_M = """Tom Ben Max Sam Leo Finn Oscar Jack Toby Hugo Otto Felix Milo Theo Gus Archie Barney Bruno Charlie Dexter
    Eddie Freddy George Harry Jasper Kip Louis Monty Ned Ollie Pip Rufus Sunny Teddy Victor Walter Ziggy Arthur Billy
    Cosmo Dan Elmo Frank Henry Ivan Joe Karl Luke Nico Paul""".split()

ADJ_HERO = """little small tiny brave kind clever shy happy lonely curious sleepy hungry proud friendly gentle lazy young old
    cheerful quiet busy funny silly clumsy grumpy fluffy greedy honest patient playful careful big tall strong wise
    adventurous lucky noisy polite messy fast slow stubborn dreamy magic golden blue red green purple pink white black
    spotted striped yellow orange silver sad forgetful""".split()
# adjectives that may be put next to one another: "brave little fox"
ADJ_SIZE = "little small tiny young old big".split()
ADJ_MOOD = """brave kind clever shy happy lonely curious sleepy hungry proud friendly gentle lazy cheerful quiet busy funny
    silly clumsy grumpy greedy honest patient playful careful wise noisy polite stubborn dreamy forgetful""".split()

HOMES = {
    "forest": ["in a cozy den under an old oak tree", "in a hollow log at the edge of the forest", "in a small burrow near the river",
               "in the middle of a green forest", "in a warm hole beneath a tall pine tree", "on a quiet hill full of ferns",
               "in a snug little house in the woods", "beside a silver stream in the forest"],
    "farm": ["on a sunny farm at the end of a long road", "in a red barn on a hill", "on a small farm near the village",
             "in a warm barn full of golden hay", "behind a white fence on a busy farm", "in a little stable beside a green field",
             "in a yellow house with a big garden"],
    "jungle": ["in a warm green jungle", "on a wide grassy plain", "near a water hole where all the animals came to drink",
               "under a tall palm tree", "in a big, friendly zoo", "by a slow brown river", "at the edge of a sunny jungle"],
    "bird": ["in a round nest at the top of a tall tree", "in a nest of soft grass by the pond", "on the roof of an old barn",
             "in a little nest above the river", "on a high cliff by the sea", "in a quiet garden full of trees"],
    "sea": ["in the deep blue sea", "in a bright coral reef", "near a sandy beach", "in a cave at the bottom of the sea",
            "in the calm water of a small bay", "among the green seaweed near an island"],
    "bug": ["under a big green leaf", "in a garden full of flowers", "beside a quiet pond", "under a flat gray stone",
            "in the tall grass of a meadow", "between the roots of an apple tree"],
    "magic": ["in a cave on top of a mountain", "in a tower at the end of a rainbow", "in a magic forest", "in a castle made of clouds",
              "in a crooked little house in the woods", "on an island nobody could find on a map", "in a valley full of mist"],
    "person": ["in a little village by the sea", "in a small house with a blue door", "in a town at the foot of a mountain",
               "in a cottage near the forest", "in a busy city", "in a white house on a hill", "in a village where everyone knew everyone"],
    "thing": ["in a little town by the sea", "in an old house at the end of the street", "on a shelf in a small shop", "in a quiet garden",
              "in a busy town", "near a village on a hill", "in a room with a round window"],
}

PLACES = {
    "forest": "forest,woods,meadow,river,hill,valley,old mill,cave,lake,mountain,pond,clearing,waterfall,stream,village,bridge".split(","),
    "farm": "barn,field,garden,pond,orchard,hill,river,village,meadow,forest,stable,market,lake,haystack".split(","),
    "jungle": "jungle,river,water hole,waterfall,mountain,cave,valley,lake,hill,forest,desert,swamp".split(","),
    "bird": "pond,forest,lake,hill,old barn,meadow,cliff,beach,garden,river,orchard,tower,island,park".split(","),
    "sea": "beach,reef,sea cave,old shipwreck,island,bay,lagoon,seaweed forest,lighthouse,harbor".split(","),
    "bug": "garden,meadow,pond,flower bed,old stump,hedge,orchard,stone wall,park,rose bush".split(","),
    "magic": "castle,tower,magic forest,mountain,cave,village,lake,enchanted garden,island,bridge,desert,kingdom".split(","),
    "person": "market,park,beach,forest,river,garden,school,library,village,mountain,harbor,castle,city,farm,zoo,playground,lake,island,museum".split(","),
    "thing": "town,park,garden,river,hill,market,beach,village,forest,station,harbor,city,school,bridge,playground,lake".split(","),
}
ALL_PLACES = sorted({p for v in PLACES.values() for p in v})

COLORS = "red blue green yellow pink purple orange white golden silver brown".split()

# small things that can be carried, lost, found, given
OBJECTS = """ball hat scarf key bell ring book kite lantern cup basket drum shell button feather coin map whistle flute spoon
    umbrella blanket pillow teddy bear toy boat paintbrush pencil mirror necklace crown stone marble top ribbon mitten shoe
    boot bag box bottle flower leaf acorn letter clock compass bucket candle star cookie jar violin trumpet backpack puzzle
    doll wagon sled rope hammer watch crystal pebble seed balloon glove coat kettle teapot""".replace("teddy bear", "teddy_bear").replace(
    "toy boat", "toy_boat").replace("cookie jar", "cookie_jar").split()
OBJECTS = [o.replace("_", " ") for o in OBJECTS]
ADJ_OBJ = """red blue green yellow golden silver shiny little old tiny round soft wooden magic beautiful bright pretty favorite
    new striped purple pink orange white special sparkly warm strange""".split()

# plural or mass: "some ..."
FOODS = """apples,berries,honey,cookies,soup,bread,cake,pancakes,nuts,carrots,cherries,plums,cheese,muffins,pears,strawberries,
    blueberry pie,peaches,corn,peas,porridge,jam,lemonade,ice cream,popcorn,raspberries,oranges,bananas,noodles,pie""".replace("\n    ", "").split(",")
TREATS = "cake,pie,soup,loaf of bread,pudding,stew,salad,pizza,sandwich,apple pie,chocolate cake,honey cake,berry pie,carrot cake".split(",")

BUILDS = """boat,treehouse,bridge,kite,sandcastle,snowman,raft,tower,tent,swing,wagon,birdhouse,flying machine,little house,
    rocket,windmill,scarecrow,ladder,robot,slide""".replace("\n    ", "").split(",")

SKILLS = [("sing", "singing"), ("dance", "dancing"), ("whistle", "whistling"), ("swim", "swimming"), ("paint", "painting"),
          ("read", "reading"), ("juggle", "juggling"), ("skate", "skating"), ("play the drum", "playing the drum"),
          ("play the flute", "playing the flute"), ("cook", "cooking"), ("climb", "climbing"), ("jump rope", "jumping rope"),
          ("ride a bicycle", "riding a bicycle"), ("tell jokes", "telling jokes"), ("write", "writing"), ("knit", "knitting"),
          ("count to ten", "counting"), ("tie a knot", "tying knots"), ("do a cartwheel", "doing cartwheels")]

PLANTS = "sunflower,pumpkin,rose,apple tree,tomato,carrot,bean,tulip,melon,strawberry,cherry tree,daisy,potato".split(",")

# what you may be afraid of
FEARS = [("the dark", "the dark"), ("thunder", "thunder"), ("deep water", "deep water"), ("high places", "high places"),
         ("loud noises", "loud noises"), ("the tall bridge", "the bridge"), ("spiders", "spiders"), ("the old cave", "the cave"),
         ("storms", "storms"), ("big waves", "big waves"), ("monsters", "monsters"), ("ghosts", "ghosts")]

THEMES = {
    "sharing": "share", "friendship": "lonely", "being brave": "fear", "courage": "fear", "honesty": "truth",
    "telling the truth": "truth", "helping others": "help", "kindness": "help", "patience": "garden", "never giving up": "build",
    "a birthday": "birthday", "a birthday party": "birthday", "a race": "race", "a lost toy": "lost", "a rainy day": "rain",
    "a snowy day": "snow", "the snow": "snow", "the rain": "rain", "bedtime": "bedtime", "going to sleep": "bedtime",
    "making a new friend": "lonely", "saying sorry": "quarrel", "forgiveness": "quarrel", "learning something new": "skill",
    "a garden": "garden", "finding the way home": "waylost", "a magic wish": "wish", "a surprise": "birthday",
    "a strange noise": "noise", "a long journey": "journey", "an adventure": "journey", "cooking": "bake", "baking a cake": "bake",
    "the moon": "journey_moon", "the stars": "bedtime", "a treasure": "treasure", "a treasure map": "treasure",
    "teamwork": "help", "love": "gift", "a gift": "gift", "a present": "gift", "a storm": "storm", "the sea": "journey_sea",
    "the wind": "storm", "being kind": "help", "winter": "snow", "a new friend": "lonely", "hope": "garden", "music": "skill_music",
}

# Rare nouns: they make the model learn to copy a word it has hardly ever seen.
RARE = """accountant acrobat alligator anchor antelope apron armadillo artist baboon badge bagpipe bakery banjo barber barrel bat
    beetroot bison blender blizzard bluejay bobcat bookworm bucket buffalo bulldozer bumblebee butler buzzard cabbage camera canary
    canoe caribou carrot cello chameleon chemist chimney cobbler cockatoo comet coyote crane crayon cucumber cyclops detective
    dentist diver dolphin dumpling dustbin earthworm eel elk emu engineer envelope falcon faucet ferret ferry fiddle flashlight
    fountain fridge garlic gazelle gecko gibbon giraffe glacier glider gopher guitar hammock hawk helmet heron hyena ibis icicle
    iguana jackal jaguar janitor jeweler judge juggler kayak keyboard kingfisher kiwi ladle lantern lawyer lemon locksmith lynx
    magician magnet magpie mailbox mammoth manatee mandolin mango marmot mechanic meerkat meteor milkman mongoose moth mule
    muskrat mustache narwhal newt nightingale nurse onion orangutan orca oriole ostrich oyster paddle papaya partridge pelican
    pepper photographer piano pickle pillowcase pilot pineapple plumber poet policeman pony printer puffin quail quilt rattle
    reindeer rhubarb ribbon rickshaw rooster sailboat salamander salmon sandal satellite saxophone scarecrow scissors scooter
    scorpion shrimp skateboard skeleton skyscraper sled sparrowhawk spatula sphinx sponge stapler stingray submarine suitcase
    surfer swallow swordfish tambourine tapir telephone telescope termite thermometer thimble thistle tiger toothbrush tornado
    tortoise toucan tram trombone trout trumpet tuba turnip typewriter ukulele umbrella vampire vase viking violin volcano
    vulture waffle wagon walnut wardrobe warthog wasp watermelon wheelbarrow whisk wombat yak yeti zeppelin zipper""".split()

# Syllables for invented names ("Zorbo"): copying them can only be done letter by letter.
SYL_A = "Ba Be Bi Bo Bu Da De Di Do Fa Fe Fi Fo Ga Go Gu Ha He Hi Jo Ju Ka Ke Ki Ko La Le Li Lo Lu Ma Me Mi Mo Mu Na Ne No Pa Pe Pi Po Qui Ra Re Ri Ro Ru Sa Se Shi So Ta Te Ti To Tu Va Ve Vi Wa Wi Xa Ya Yo Za Ze Zi Zo".split()
SYL_B = "ba bbi bo dda de di do fa ffy ga go ka ki ko la lla le li lo lu ma mmi mo na nno ni no pa ppy ra rri ro ru sa ssi so ta tti to va vi xo za zzy zo".split()
SYL_C = "n r s x l m t k nda lla rbo ndo sh th rt".split()

RARE_PEOPLE = set("""accountant acrobat artist barber butler chemist cobbler detective dentist diver engineer janitor jeweler judge juggler
    lawyer locksmith magician mechanic milkman nurse photographer pilot plumber poet policeman surfer""".split())
RARE_ANIMALS = set("""alligator antelope armadillo baboon bat bison bluejay bobcat bookworm buffalo bumblebee buzzard canary caribou chameleon
    cockatoo coyote crane cyclops dolphin earthworm eel elk emu falcon ferret gazelle gecko gibbon giraffe gopher hawk heron hyena ibis iguana
    jackal jaguar kingfisher kiwi lynx magpie mammoth manatee marmot meerkat mongoose moth mule muskrat narwhal newt nightingale orangutan orca
    oriole ostrich partridge pelican pony puffin quail reindeer rooster salamander salmon scorpion shrimp sparrowhawk sphinx stingray swallow
    swordfish tapir termite tiger tortoise toucan trout vampire viking vulture warthog wasp wombat yak yeti""".split())
PLURAL_FOODS = """apples berries cookies pancakes nuts carrots cherries plums muffins pears strawberries peaches raspberries oranges bananas
    tomatoes grapes blueberries lemons""".split()
# letters that must not come up in an invented name
NOT_A_NAME = "sex fag fuc nig coc dic tit pus cum naz shi poo pis pee gay jap kik hoe suc sli ass ana puta bob bib negr pedo porn ziti titt dik kok koc moro lolit hore rape rap".split()
RARE_THINGS = [w for w in RARE if w not in RARE_PEOPLE | RARE_ANIMALS]
# not said of people
LOOKS = set("golden blue red green purple pink white black spotted striped yellow orange silver fluffy".split())
