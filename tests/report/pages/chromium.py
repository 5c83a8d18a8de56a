"""Drives a headless Chromium over its DevTools pipe: Python's standard library and the browser, nothing else."""

import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

TIMEOUT = 120  # seconds without an answer: the browser hangs


def find():
    """The browser's path, or None. Ubuntu's chromium is a stub for a snap, which cannot see files outside home."""
    path = shutil.which("chromium")
    if path is None or "snap" in os.path.realpath(path):
        return None
    head = pathlib.Path(path).read_bytes()[:4096]
    return None if head.startswith(b"#!") and b"/snap/" in head else path


class Browser:
    def __init__(self, path):
        self.profile = tempfile.mkdtemp(prefix="headlens-chromium-")
        theirs_in, self.out = os.pipe()
        self.inp, theirs_out = os.pipe()
        # Chromium reads from 3 and writes to 4, so ours must not be in the way.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        ours = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (self.inp, self.out)]
        os.close(self.inp)
        os.close(self.out)
        self.inp, self.out = ours
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 "--no-first-run", "--force-color-profile=srgb", "--disable-background-networking", f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen([path, *flags, "about:blank"], preexec_fn=place, pass_fds=(3, 4), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in high:
            os.close(fd)
        self.buffer, self.last, self.events = b"", 0, []

    def _message(self):
        while b"\0" not in self.buffer:
            if not select.select([self.inp], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"no word from Chromium for {TIMEOUT} s")
            data = os.read(self.inp, 1 << 20)
            if not data:
                raise RuntimeError(f"Chromium ended with status {self.process.wait()}")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data):]
        while True:
            answer = self._message()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def close(self):
        try:
            self.call("Browser.close")
        except (RuntimeError, OSError, TimeoutError):
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """One file opened in a tab of its own."""

    def __init__(self, browser, path, width=1240, height=1400, dark=False, scale=1):
        self.browser, self.url = browser, pathlib.Path(path).resolve().as_uri()
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.target = target
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, height, scale)
        self.dark(dark)
        self.call("Page.navigate", url=self.url)
        while not self._events("Page.loadEventFired"):
            browser.events.append(browser._message())
        self.settle()

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def _events(self, *methods):
        return [e for e in self.browser.events if e.get("sessionId") == self.session and e.get("method") in methods]

    def resize(self, width, height, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def dark(self, on):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def complaints(self):
        """Console messages and exceptions, in words."""
        found = [json.dumps(e["params"])[:400] for e in self._events("Runtime.exceptionThrown", "Log.entryAdded")]
        return found + [json.dumps(e["params"])[:400] for e in self._events("Runtime.consoleAPICalled") if e["params"]["type"] in ("error", "warning", "assert")]

    def requests(self):
        """What was asked for besides the page itself."""
        return [e["params"]["request"]["url"][:200] for e in self._events("Network.requestWillBeSent") if e["params"]["request"]["url"] != self.url]

    def run(self, expression):
        """The value of an expression in the page, a promise's once it has one."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return answer["result"].get("value")

    def settle(self):
        """Waits for the tiles that were asked for and the frame after them."""
        self.run("""(async () => {
          const frame = () => new Promise(r => requestAnimationFrame(() => setTimeout(r)));
          let before;
          do {
            before = typeof unpacked === "undefined" ? 0 : unpacked.size;
            if (before) await Promise.all([...unpacked.values()].map(t => t.ready).concat(tiled.map(m => m.ending)));
            await frame(); await frame();
          } while (before && unpacked.size !== before);
        })()""")

    def wait_for(self, condition):
        end = time.monotonic() + TIMEOUT
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(.02)

    def point_of(self, selector, x=None, y=None):
        """A point of an element on the screen (its middle, or x, y from its corner), scrolled into view."""
        box = self.run(f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: "center"}});
          const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})()""")
        return box[0] + (box[2] / 2 if x is None else x), box[1] + (box[3] / 2 if y is None else y)

    def move(self, selector, x=None, y=None):
        px, py = self.point_of(selector, x, y)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=px, y=py)
        self.settle()

    def click(self, selector, x=None, y=None):
        px, py = self.point_of(selector, x, y)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=px, y=py, button="left", clickCount=1)
        self.settle()

    def wheel(self, selector, delta, x=None, y=None):
        px, py = self.point_of(selector, x, y)
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=px, y=py, deltaX=0, deltaY=delta)
        self.settle()

    def press(self, key):
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes.get(key, ord(key[0])), **(text if kind == "keyDown" else {}))
        self.settle()

    def choose_file(self, selector, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path, whole=False):
        params = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            params = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        pathlib.Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **params)["data"]))

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
