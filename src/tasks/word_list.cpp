// headlens/tasks: the words that made tasks choose from.
#include "tasks/word_list.h"

#include <array>

namespace headlens {
namespace {

// Short, common nouns, sorted; none is a word of a prompt template or of the made-up world.
constexpr std::array<std::string_view, 256> kWords = {
    "actor",   "air",    "album",  "anchor", "angel",   "apple",   "arm",    "army",     "arrow",
    "art",     "atom",   "baby",   "back",   "bag",     "ball",    "band",   "bank",     "bar",
    "barn",    "base",   "basket", "bath",   "beach",   "bear",    "bed",    "bee",      "bell",
    "belt",    "bench",  "bike",   "bill",   "bird",    "blade",   "block",  "board",    "boat",
    "body",    "bone",   "book",   "boot",   "border",  "bottle",  "bow",    "bowl",     "box",
    "boy",     "brain",  "branch", "brick",  "bridge",  "brush",   "bucket", "bug",      "bull",
    "bus",     "butter", "button", "cabin",  "cable",   "cage",    "cake",   "camera",   "camp",
    "candle",  "cap",    "car",    "card",   "cart",    "case",    "cell",   "chain",    "chair",
    "chalk",   "chart",  "chest",  "church", "circle",  "city",    "class",  "clay",     "clock",
    "cloth",   "cloud",  "club",   "coach",  "coal",    "coat",    "code",   "coffee",   "coin",
    "college", "corn",   "couch",  "court",  "cow",     "crew",    "crown",  "cup",      "desk",
    "diamond", "door",   "dragon", "dress",  "drum",    "dust",    "eagle",  "ear",      "earth",
    "egg",     "engine", "eye",    "face",   "farm",    "feather", "fence",  "field",    "film",
    "finger",  "fire",   "flag",   "floor",  "flower",  "foot",    "fork",   "fountain", "frame",
    "fruit",   "game",   "garden", "gas",    "gate",    "hall",    "hammer", "hand",     "hat",
    "heart",   "hill",   "hook",   "horse",  "hotel",   "house",   "ice",    "iron",     "jacket",
    "jar",     "jet",    "judge",  "king",   "kitchen", "knee",    "knife",  "ladder",   "lake",
    "lamp",    "leaf",   "leg",    "lemon",  "letter",  "light",   "lion",   "lock",     "log",
    "magnet",  "map",    "mask",   "metal",  "milk",    "mirror",  "moon",   "motor",    "mouth",
    "nail",    "neck",   "needle", "net",    "nose",    "novel",   "oil",    "oven",     "page",
    "palace",  "paper",  "park",   "pen",    "pencil",  "piano",   "pig",    "pipe",     "plane",
    "plant",   "plate",  "pocket", "poem",   "pool",    "queen",   "radio",  "rain",     "ring",
    "road",    "rock",   "roof",   "room",   "rope",    "rose",    "sand",   "school",   "screen",
    "seat",    "shadow", "sheep",  "ship",   "shirt",   "shoe",    "shop",   "silver",   "skin",
    "sky",     "smoke",  "snow",   "soap",   "sock",    "song",    "spider", "spoon",    "star",
    "stone",   "street", "sugar",  "sun",    "sword",   "table",   "tail",   "tank",     "tea",
    "tent",    "ticket", "tiger",  "tool",   "tower",   "town",    "toy",    "train",    "tree",
    "truck",   "van",    "wagon",  "wall",   "watch",   "water",   "wheel",  "window",   "wing",
    "wire",    "wolf",   "wood",   "yard",
};

}  // namespace

std::span<const std::string_view> word_list() {
  return kWords;
}

}  // namespace headlens
