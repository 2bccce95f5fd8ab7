"""Names by kind and words by opposite: what a wrong statement puts in place of a true detail."""

from __future__ import annotations

from knowtuning.lab.rules_words import word_set


def _list(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


KINDS: dict[str, tuple[str, ...]] = {
    "month": _list("January,February,March,April,June,July,August,September,October,November,December"),
    "weekday": _list("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday"),
    "continent": _list("Africa,Asia,Europe,North America,South America,Australia,Antarctica"),
    "country": _list("""France,Germany,Italy,Spain,Portugal,Poland,Sweden,Norway,Denmark,Finland,Ireland,Scotland,
        England,Austria,Switzerland,Greece,Turkey,Egypt,Kenya,Nigeria,India,China,Japan,Vietnam,Thailand,Indonesia,
        Brazil,Peru,Chile,Argentina,Mexico,Canada,Russia,Ukraine,Hungary,Belgium,Slovenia,Croatia,Pakistan,Iran,Iraq,
        Israel,Colombia,Cuba"""),
    "country with article": _list("United States,United Kingdom,Netherlands,Philippines,Soviet Union,Czech Republic"),
    "people": _list("""French,German,Italian,Spanish,Portuguese,Polish,Swedish,Norwegian,Danish,Finnish,Irish,Scottish,
        English,British,Austrian,Swiss,Greek,Turkish,Egyptian,Kenyan,Nigerian,Indian,Chinese,Japanese,Vietnamese,Thai,
        Brazilian,Peruvian,Chilean,Mexican,Canadian,American,Russian,Ukrainian,Hungarian,Belgian,Dutch,Roman,Korean"""),
    "continent's people": _list("African,Asian,European,Australian,Polynesian,Scandinavian"),
    "state": _list("""Alabama,Alaska,Arizona,California,Colorado,Connecticut,Delaware,Florida,Georgia,Hawaii,Idaho,
        Illinois,Indiana,Iowa,Kansas,Kentucky,Maine,Maryland,Massachusetts,Michigan,Minnesota,Missouri,Montana,Nevada,
        New Jersey,New Mexico,Ohio,Oklahoma,Oregon,Pennsylvania,Tennessee,Texas,Utah,Vermont,Virginia,Wisconsin"""),
    "city": _list("""London,Paris,Berlin,Rome,Madrid,Vienna,Prague,Dublin,Oslo,Athens,Cairo,Nairobi,Delhi,Mumbai,Tokyo,
        Osaka,Beijing,Shanghai,Bangkok,Sydney,Melbourne,Toronto,Montreal,Chicago,Boston,Seattle,Houston,Dallas,Denver,
        Detroit,Miami,Atlanta,Philadelphia,New York City,San Francisco,San Diego,Los Angeles,Lima,Moscow,Istanbul"""),
    "ocean": _list("Atlantic,Pacific,Arctic,Mediterranean,Baltic"),
    "planet": _list("Mercury,Venus,Mars,Jupiter,Saturn,Uranus,Neptune"),
    "religion": _list("Christianity,Islam,Hinduism,Buddhism,Judaism,Sikhism"),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}

PERSONS = _list("""Martin Hale,Clara Whitfield,Daniel Brook,Helen Marsh,Peter Lindqvist,Laura Benning,Thomas Aldridge,
    Ruth Calloway,Simon Archer,Elena Vasari,Walter Dunne,Irene Falk,Oscar Penrose,Nina Castell,Hugo Brandt,Judith Moran,
    Victor Lang,Sylvia Thorne,Edgar Wynn,Marta Olsen,Felix Crane,Diana Rourke,Leon Hartwell,Agnes Pell""")
# a run of capitalised words with one of these is no person
NOT_PERSONS = word_set("""
ironworks war wars world river lake sea ocean mountain mountains valley university college school league cup
championship championships games church act award awards prize party company corporation inc street avenue park bridge
city county state states republic kingdom empire islands island army navy office department association society museum
theory system union bowl series club team national international american european north south east west northern
southern eastern western new great age revolution battle treaty day century house court music rock language food book
film show band airlines bank center centre institute trail beach canyon desert sauce cheese service services
management program
""")

# "a:b" holds both ways, "a>b" only from left to right, since b has other meanings; "_" stands for a blank
_PAIRS = word_set("""
always:never the_most:the_least most_common:least_common most_often:least_often more:less increase:decrease
increases:decreases increased:decreased increasing:decreasing high:low higher:lower highest:lowest large:small
larger:smaller largest:smallest big>small bigger>smaller biggest>smallest before:after earlier:later earliest:latest
first>last north:south northern:southern northeast:southwest northwest:southeast east:west eastern:western hot:cold
hottest:coldest male:female men:women man:woman young:old younger:older youngest:oldest best:worst better:worse
common:rare commonly>rarely begins:ends began:ended public:private positive:negative major:minor strong:weak
stronger:weaker long>short longer:shorter longest:shortest fast:slow faster:slower fastest:slowest good:bad
difficult:easy soft>hard softer:harder safe:dangerous winter:summer day:night father:mother son:daughter
sons:daughters husband:wife brother:sister brothers:sisters king:queen won:lost above:below inside:outside
without>with many>few often:rarely usually>rarely frequently>seldom typically>rarely generally>seldom maximum:minimum
wet:dry wide:narrow deep:shallow rich:poor cheap:expensive heavy>light internal:external indoor:outdoor upper>lower
possible:impossible necessary:unnecessary important>unimportant successful:unsuccessful healthy:unhealthy
famous>unknown popular:unpopular ancient:modern urban:rural simple:complex raises>lowers improves>worsens
improve>worsen allows>forbids include>exclude includes>excludes expand>shrink natural:artificial white>black red>blue
green>yellow
""")
OPPOSITES = {b: a for a, b in (pair.split(":") for pair in sorted(_PAIRS) if ":" in pair)} | dict(
    pair.replace(">", ":").replace("_", " ").split(":") for pair in sorted(_PAIRS)
)
OPPOSITES = {word.replace("_", " "): other.replace("_", " ") for word, other in OPPOSITES.items()}
