/** Types of job-progress.js, the <job-progress> element. */

import type { JobView, Socket } from "./client.js";

export class JobProgress extends HTMLElement {
  /** What it says; replace them to speak another language. Functions take what they are about. */
  static words: Record<string, string | ((...about: never[]) => string)>;
  /** The page's own socket, in place of one to `url`. */
  socket: Socket | null;
  /** Where the job stands. */
  readonly view: JobView;
}

declare global {
  interface HTMLElementTagNameMap {
    "job-progress": JobProgress;
  }
  interface HTMLElementEventMap {
    "job-change": CustomEvent<JobView>;
    "job-end": CustomEvent<JobView>;
  }
}
