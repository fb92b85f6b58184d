/** What every page of the control room does. No dependency but the realtime client. */

import { dressTimes } from "./ago.js";
import { listenToForms } from "./ask.js";
import { listenToCopies } from "./copy.js";
import { goLive } from "./live.js";
import { offerThemes } from "./theme.js";

// On a phone the navigation is wider than the screen.
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
offerThemes();
listenToForms();
listenToCopies();
dressTimes();
goLive();
